import { describe, expect, test } from 'vitest';
import type { Figures, Measured } from '../../bench/end-to-end.ts';
import { ratios, summarize } from '../../bench/report.ts';
import { median, quantile, slope, spread } from '../../bench/statistics.ts';

test('a quantile lies between its neighbours in proportion', () => {
  expect(quantile([40, 10, 30, 20], 0)).toBe(10);
  expect(quantile([40, 10, 30, 20], 1)).toBe(40);
  expect(quantile([0, 10], 0.25)).toBe(2.5);
  expect(median([3, 1, 2])).toBe(2);
  expect(median([1, 2, 3, 10])).toBe(2.5);
});

test('a spread is sorted by number, not by text', () => {
  expect(spread([100, 9, 20])).toEqual({ median: 20, min: 9, max: 100 });
});

describe('slope', () => {
  test('is the rise of a straight line, wherever it begins', () => {
    expect(slope([10, 11, 12, 13].map((x) => [x, 7 - 2 * x]))).toBeCloseTo(-2);
  });

  test('is that of the line that comes closest', () => {
    expect(slope([[0, 0], [1, 2], [2, 1], [3, 3]])).toBeCloseTo(0.8);
  });

  test('is 0 of a single point', () => {
    expect(slope([[5, 5]])).toBe(0);
  });
});

describe('figures of several runs', () => {
  const ours: Measured = { scenario: 'large', subject: 'ours', runs: [run(2, 100), run(4, 50), run(2, 100)] };
  const theirs: Measured = { scenario: 'large', subject: 'theirs', runs: [run(20, 10), run(20, 10), run(30, 10)] };

  test('are their medians, with the spread beside them', () => {
    expect(summarize(ours)).toMatchObject({ name: 'large', subject: 'ours', runs: 3, collectorCpuUsPerSpan: 2, spread: { collectorCpuUsPerSpan: { min: 2, max: 4 } } });
  });

  test('are compared run by run, within a scenario', () => {
    const other: Measured = { ...theirs, scenario: 'small' };
    expect(ratios([ours, theirs, other], ['ours'], ['theirs'])).toEqual([
      { scenario: 'large', subject: 'ours', baseline: 'theirs', collectorCpu: 10, clickhouseCpu: Number.NaN, spansPerSecond: 10 },
    ]);
  });
});

function run(collectorCpuUsPerSpan: number, spansPerSecond: number): Figures {
  return {
    spansPerSecond,
    storedSpansPerSecond: spansPerSecond,
    collectorCpuUsPerSpan,
    clickhouseCpuUsPerSpan: Number.NaN,
    rowsPerInsert: 1,
    mergedRowsPerRow: 1,
    ackP50Ms: 1,
    ackP99Ms: 1,
    collectorPeakMemoryMb: 1,
    refusedRequests: 0,
    lostSpans: 0,
    noiseCores: 0,
  };
}
