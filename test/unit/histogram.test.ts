import { expect, test } from 'vitest';
import { Histogram, quantile } from '../../src/telemetry/histogram.ts';

const BOUNDS = [1, 10, 100];

test('a value is in the bucket of the first bound that it does not exceed', () => {
  const histogram = new Histogram(BOUNDS);
  for (const value of [0, 1, 1.5, 10, 100, 101, 5_000]) histogram.observe(value);
  expect([...histogram.counts]).toEqual([2, 2, 1, 2]);
  expect(histogram.sum).toBe(5_213.5);
});

test.each([
  [0.5, [10, 0, 0, 0], 0.5],
  [0.5, [5, 5, 0, 0], 1],
  [0.75, [5, 5, 0, 0], 5.5],
  [0.99, [99, 0, 0, 1], 1],
  [1, [1, 0, 0, 1], 100],
])('the quantile %d of %j is %d', (part, counts, expected) => {
  expect(quantile(part, BOUNDS, counts)).toBeCloseTo(expected);
});

test('there is no quantile of nothing', () => {
  expect(quantile(0.5, BOUNDS, [0, 0, 0, 0])).toBeNaN();
});
