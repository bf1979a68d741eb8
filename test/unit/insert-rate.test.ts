import { expect, test } from 'vitest';
import { InsertRate } from '../../src/storage/insert-rate.ts';

test('inserts a second and their size are those of the last minute', () => {
  const rate = new InsertRate(0);
  for (let atMs = 0; atMs < 120_000; atMs += 500) rate.inserted(atMs < 60_000 ? 1 : 1_000, atMs);
  expect(rate.lastMinute(119_999)).toEqual({ insertsPerSecond: 2, spansPerInsert: 1_000 });
  expect(rate.lastMinute(149_999)).toEqual({ insertsPerSecond: 1, spansPerInsert: 1_000 });
  expect(rate.lastMinute(200_000)).toEqual({ insertsPerSecond: 0, spansPerInsert: 0 });
});

test('in the first minute they are those since the start', () => {
  const rate = new InsertRate(5_000);
  for (let count = 0; count < 10; count++) rate.inserted(50, 6_000);
  expect(rate.lastMinute(10_000)).toEqual({ insertsPerSecond: 2, spansPerInsert: 50 });
});
