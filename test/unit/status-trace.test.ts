import { expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { RecentTraces } from '../../src/status/recent-traces.ts';
import { Series } from '../../src/status/series.ts';
import { detailsOf, listOf, traceOf, type SpanRow } from '../../src/status/trace.ts';
import type { StorageService } from '../../src/storage/storage.service.ts';

function row(SpanId: string, ParentSpanId: string, startMs: number, durationMs = 1): SpanRow {
  return {
    TraceId: 't',
    SpanId,
    ParentSpanId,
    SpanName: SpanId,
    ServiceName: 'service',
    StatusCode: 'STATUS_CODE_UNSET',
    start: `${1_800_000_000_000 + startMs}000000`,
    duration: String(durationMs * 1e6),
  };
}

function shape(rows: readonly SpanRow[]): string[] {
  return traceOf(rows).spans.map(({ name, depth }) => `${' '.repeat(depth)}${name}`);
}

test('each span stands below the one it is in, and they start one after the other', () => {
  const trace = traceOf([row('root', '', 0, 100), row('a', 'root', 10, 20), row('b', 'root', 20, 90), row('a1', 'a', 25)]);
  expect(trace.spans.map(({ name, depth, startMs, durationMs }) => [name, depth, startMs, durationMs])).toEqual([
    ['root', 0, 0, 100],
    ['a', 1, 10, 20],
    ['a1', 2, 25, 1],
    ['b', 1, 20, 90],
  ]);
  expect(trace).toMatchObject({ startedAtMs: 1_800_000_000_000, durationMs: 110 });
});

test("the list has the start of each trace to the ms, which a number of ns can't hold", () => {
  const starts = Array.from({ length: 100 }, (_, index) => 1_795_880_000_000 + index * 37);
  const newest = starts.map((start) => [String(start), String(start), 'name', 'service', `${start}000000`, '1000000', '1', '0'] as const);
  const list = listOf({ total: '100', failed: '0', newest, newestFailed: [], slowest: [] });
  expect(list.traces.map(({ startedAtMs }) => startedAtMs)).toEqual(starts);
});

test.each<[string, SpanRow[], string[]]>([
  ['whose parent is elsewhere', [row('a', 'gone', 0), row('b', 'a', 1)], ['a', ' b']],
  ['that came twice', [row('a', '', 0), row('a', '', 0), row('b', 'a', 1)], ['a', ' b', 'a']],
  ['that is its own parent', [row('a', 'a', 0)], ['a']],
  ['in a circle', [row('a', 'b', 0), row('b', 'a', 1)], ['a', 'b']],
])('a span %s is shown once for each row', (_, rows, expected) => {
  expect(shape(rows)).toEqual(expected);
});

test('spans may be nested as deep as a sender likes', () => {
  const rows = Array.from({ length: 50_000 }, (_, index) => row(`${index}`, index === 0 ? '' : `${index - 1}`, index));
  expect(shape(rows)).toHaveLength(50_000);
});

test('attributes are sorted, cut where they are too long, and shown as JSON where a column of the type JSON has no text', () => {
  const none = { SpanKind: '', StatusCode: '', StatusMessage: '', ScopeName: 'gateway', ScopeVersion: '2', ResourceAttributes: {} };
  const SpanAttributes = { b: { nested: 1 }, a: 'x'.repeat(4_001), ...JSON.parse('{"__proto__":"text"}') };
  expect(
    detailsOf({ ...none, SpanAttributes, eventNames: ['late'], eventTimes: ['-1500000'], eventAttributes: [{ c: '1' }] }),
  ).toMatchObject({
    scope: 'gateway 2',
    attributes: [
      ['__proto__', 'text'],
      ['a', `${'x'.repeat(4_000)}…`],
      ['b', '{"nested":1}'],
    ],
    events: [{ name: 'late', afterMs: -1.5, attributes: [['c', '1']] }],
  });
});

test('while ClickHouse does not answer, the list of traces is said to be old', async () => {
  const config = loadConfig({ CLICKHOUSE_URL: 'http://127.0.0.1:1', DISABLE_AUTH: 'true' });
  const recent = new RecentTraces(config, { stats: { insertedRows: 1 } } as StorageService);
  expect(await recent.refresh()).toBe(false);
  recent.turnOn();
  expect(await recent.refresh()).toBe(true);
  expect(recent.list).toEqual({ total: 0, failed: 0, isOld: true, traces: [] });
  await recent.onApplicationShutdown();
});

test('a series keeps the last points, oldest first', () => {
  const series = new Series(3);
  expect(series.values()).toEqual([]);
  for (const value of [1, 2, 3, 4, 5]) series.push(value);
  expect(series.values()).toEqual([3, 4, 5]);
});
