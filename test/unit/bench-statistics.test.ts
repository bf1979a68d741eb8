import { describe, expect, test } from 'vitest';
import type { Figures, Measured } from '../../bench/end-to-end.ts';
import { endToEndTables, ratios, ratioTable, short, summarize } from '../../bench/report.ts';
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
    expect(
      slope([
        [0, 0],
        [1, 2],
        [2, 1],
        [3, 3],
      ]),
    ).toBeCloseTo(0.8);
  });

  test('is 0 of a single point', () => {
    expect(slope([[5, 5]])).toBe(0);
  });
});

describe('figures of several runs', () => {
  const ours: Measured = { scenario: 'large', subject: 'ours', runs: [run(2, 100), run(4, 50), run(2, 100)] };
  const theirs: Measured = { scenario: 'large', subject: 'theirs', runs: [run(20, 10), run(20, 10), run(30, 10)] };

  test('are their medians, with the spread beside them', () => {
    expect(summarize(ours)).toMatchObject({
      name: 'large',
      subject: 'ours',
      runs: 3,
      collectorCpuUsPerSpan: 2,
      spread: { collectorCpuUsPerSpan: { min: 2, max: 4 } },
    });
  });

  test('are compared run by run, within a scenario', () => {
    const other: Measured = { ...theirs, scenario: 'small' };
    expect(ratios([ours, theirs, other], ['ours'], ['theirs'])).toEqual([
      { scenario: 'large', subject: 'ours', baseline: 'theirs', collectorCpu: 10, clickhouseCpu: Number.NaN, spansPerSecond: 10 },
    ]);
  });
});

describe('the tables', () => {
  const measured: Measured[] = [
    { scenario: 'large', subject: 'ours', runs: [run(2, 123_456), run(4, 100_000), run(2.06, 200_000)] },
    { scenario: 'large', subject: 'theirs', runs: [run(20, 10)], missing: { why: 'refused', reason: 'answered 400' } },
    { scenario: 'idle', subject: 'ours', runs: [run(Number.NaN, 0.5)] },
    { scenario: 'idle', subject: 'theirs', runs: [{ ...run(Number.NaN, 1_200_000), refusedRequests: 3, lostSpans: 8_272 }] },
  ];

  test('have a row a scenario and a column a subject, and leave out rows without figures', () => {
    const [cpu, inserts, spans] = endToEndTables(measured).split('\n\n');
    expect(cpu).toBe(
      `
| CPU µs a span, collector / ClickHouse | ours          | theirs  |
|---------------------------------------|---------------|---------|
| large                                 | 2.1 (2.0–4.0) | refused |`.trim(),
    );
    expect(inserts.split('\n')[2]).toMatch(/^\| large +\| 1\.0 · 1\.0 · 1\.0 \| refused +\|$/);
    expect(spans.split('\n').slice(2)).toEqual([
      '| large                                 | 123k · 123k | refused     |',
      '| idle                                  | 0.50 · 0.50 | 1.2M · 1.2M |',
    ]);
  });

  test('are left out when they have no figures', () => {
    const idle: Measured[] = ['ours', 'theirs'].map((subject) => ({ scenario: 'idle', subject, runs: [run(Number.NaN, 0.5)] }));
    expect(endToEndTables(idle)).toMatch(/^\| inserts a second/);
    expect(endToEndTables(idle)).not.toContain('CPU');
    expect(ratioTable(ratios(idle, ['ours'], ['theirs']))).toBe('');
  });

  test('end with what was refused and lost', () => {
    expect(endToEndTables(measured).split('\n\n').at(-1)).toBe(
      `
- theirs, large: refused: answered 400
- theirs, idle: 3 requests refused
- theirs, idle: 8,272 acknowledged spans are not in the table`.trim(),
    );
  });

  test('of ratios leave out what did not come to its end', () => {
    expect(ratios(measured, ['ours'], ['theirs']).map(({ scenario }) => scenario)).toEqual(['idle']);
    const other: Measured = { scenario: 'large', subject: 'other', runs: [run(4, 1), run(4, 1), run(4, 1)] };
    expect(ratioTable(ratios([...measured, other], ['ours'], ['other', 'theirs']))).toMatch(/\n\| ours: large +\| 1\.9 +\| – +\|$/);
  });

  test('have figures of two or three digits', () => {
    const figures = [0, 0.034, 0.996, 4.75, 9.96, 213.4, 9_949, 98_400, 999_500];
    expect(figures.map(short)).toEqual(['0', '0.03', '1.0', '4.8', '10', '213', '9949', '98k', '1.0M']);
  });
});

function run(collectorCpuUsPerSpan: number, spansPerSecond: number): Figures {
  return {
    spansPerSecond,
    storedSpansPerSecond: spansPerSecond,
    collectorCpuUsPerSpan,
    clickhouseCpuUsPerSpan: Number.NaN,
    insertsPerSecond: 1,
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
