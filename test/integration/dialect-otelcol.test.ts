import { readFileSync } from 'node:fs';
import { createClient } from '@clickhouse/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { checkTable } from '../../src/storage/table-check.ts';
import { blockOf, insertBlock } from '../support/generators/blocks.ts';
import { recordedRequest } from '../support/generators/recorded-request.ts';
import type { ExpectedRow } from '../support/oracle/expected-rows.ts';
import { inOrder, storedRows } from '../support/oracle/stored-rows.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';

/*
 * ROW_DIALECT=otelcol takes over a table from the Collector's clickhouseexporter: what that stored of a request was
 * recorded once, and a table is made by its own statements.
 */

const TRACE_ID = '11'.repeat(16);
const recorded: { rows: ExpectedRow[] } = JSON.parse(fixture('clickhouseexporter-rows.json'));

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  for (const statement of fixture('clickhouseexporter-traces.sql').split(';').slice(0, -1)) await clickhouse.command(statement);
  await insertBlock(clickhouse, blockOf(recordedRequest, 'otelcol'));
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

function fixture(name: string): string {
  return readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');
}

/** What differs on purpose. */
function withOurDifferences(row: ExpectedRow): ExpectedRow {
  return {
    ...row,
    SpanAttributes: { ...numbersKept(row.SpanAttributes), 'hive.target_id': 'target' },
    ResourceAttributes: numbersKept(row.ResourceAttributes),
    'Events.Attributes': row['Events.Attributes'].map(numbersKept),
    'Links.Attributes': row['Links.Attributes'].map(numbersKept),
    // Theirs wraps.
    Duration: row.SpanName === 'ends before it starts' ? '0' : row.Duration,
  };
}

/** Theirs loses the whole value where a NaN or an infinity is inside, as Go's JSON has none. */
function numbersKept(attributes: Record<string, string>): Record<string, string> {
  return 'array.not a number' in attributes ? { ...attributes, 'array.not a number': '["NaN","-Infinity"]' } : attributes;
}

describe('rows of the dialect otelcol', () => {
  test('are those that clickhouseexporter stored, column by column', async () => {
    const stored = await storedRows(clickhouse, [TRACE_ID]);
    expect(recorded.rows.length).toBe(13);
    expect(stored).toEqual(inOrder(recorded.rows.map(withOurDifferences)));
  });

  test('leave nothing for the check of the table to complain of but the window for retries', async () => {
    const client = createClient({ url: clickhouse.url });
    const warnings = await checkTable(client, loadConfig({ CLICKHOUSE_URL: clickhouse.url, DISABLE_AUTH: 'true', ROW_DIALECT: 'otelcol' }));
    await client.close();
    expect(warnings).toHaveLength(2);
    for (const warning of warnings) expect(warning).toContain('non_replicated_deduplication_window');
  });

  test('fill the look-up by trace id', async () => {
    expect(
      await clickhouse.query(
        `SELECT TraceId, toUnixTimestamp(min(Start)) AS start, toUnixTimestamp(max(End)) AS end
         FROM otel_traces_trace_id_ts GROUP BY TraceId`,
      ),
    ).toEqual([{ TraceId: TRACE_ID, start: 1_763_000_000, end: 1_763_000_000 }]);
  });
});

/** The columns of Grafana's trace view, as its ClickHouse data source asks for them; times in ms. */
const TRACE_VIEW = `
  WITH '${TRACE_ID}' AS trace_id,
    (SELECT min(Start) FROM otel_traces_trace_id_ts WHERE TraceId = trace_id) AS trace_start,
    (SELECT max(End) + 1 FROM otel_traces_trace_id_ts WHERE TraceId = trace_id) AS trace_end
  SELECT TraceId AS traceID, SpanId AS spanID, ParentSpanId AS parentSpanID, ServiceName AS serviceName, SpanName AS operationName,
    multiply(toUnixTimestamp64Nano(Timestamp), 0.000001) AS startTime, multiply(Duration, 0.000001) AS duration,
    arrayMap(key -> map('key', key, 'value', SpanAttributes[key]), mapKeys(SpanAttributes)) AS tags,
    arrayMap(key -> map('key', key, 'value', ResourceAttributes[key]), mapKeys(ResourceAttributes)) AS serviceTags,
    if(StatusCode IN ('Error', 'STATUS_CODE_ERROR'), 2, 0) AS statusCode,
    arrayMap((name, timestamp, attributes) -> tuple(name, toString(toUnixTimestamp64Milli(timestamp)),
      arrayMap(key -> map('key', key, 'value', attributes[key]), mapKeys(attributes)))
        ::Tuple(name String, timestamp String, fields Array(Map(String, String))),
      Events.Name, Events.Timestamp, Events.Attributes) AS logs,
    arrayMap((traceID, spanID, attributes) -> tuple(traceID, spanID,
      arrayMap(key -> map('key', key, 'value', attributes[key]), mapKeys(attributes)))
        ::Tuple(traceID String, spanID String, tags Array(Map(String, String))),
      Links.TraceId, Links.SpanId, Links.Attributes) AS references,
    SpanKind AS kind, StatusMessage AS statusMessage,
    ScopeName AS instrumentationLibraryName, ScopeVersion AS instrumentationLibraryVersion, TraceState AS traceState
  FROM otel_traces WHERE traceID = trace_id AND Timestamp >= trace_start AND Timestamp <= trace_end ORDER BY spanID LIMIT 1000`;

interface TraceViewSpan {
  operationName: string;
  parentSpanID: string;
  serviceName: string;
  startTime: number;
  duration: number;
  statusCode: number;
  kind: string;
  tags: { key: string; value: string }[];
  logs: { name: string; timestamp: string; fields: object[] }[];
  references: { traceID: string; spanID: string; tags: object[] }[];
}

describe("Grafana's queries", () => {
  test('show a trace with its events and links', async () => {
    const spans = await clickhouse.query<TraceViewSpan>(TRACE_VIEW);
    expect(spans).toHaveLength(13);
    const [everything, nested] = spans;
    expect(everything).toMatchObject({
      operationName: 'everything',
      parentSpanID: 'ab'.repeat(8),
      serviceName: 'gateway',
      duration: 1500,
      statusCode: 2,
      kind: 'Server',
    });
    expect(everything.startTime).toBeCloseTo(1_763_000_000_000, 2);
    expect(everything.tags).toContainEqual({ key: 'int.largest', value: '9223372036854775807' });
    expect(nested.logs.map(({ name, timestamp }) => [name, timestamp])).toEqual([
      ['exception', '1763000000000'],
      ['', '0'],
    ]);
    expect(nested.logs[0].fields).toContainEqual({ key: 'text', value: 'plain' });
    expect(nested.references.map(({ traceID, spanID }) => [traceID, spanID])).toEqual([
      ['cd'.repeat(16), 'ef'.repeat(8)],
      ['', ''],
    ]);
  });

  test('find the roots of traces', async () => {
    const roots = await clickhouse.query<{ operationName: string }>(
      `SELECT TraceId AS traceID, SpanName AS operationName, Timestamp AS startTime, multiply(Duration, 0.000001) AS duration
       FROM otel_traces WHERE ParentSpanId = '' AND Duration > 0 ORDER BY Timestamp DESC, Duration DESC LIMIT 1000`,
    );
    const names = roots.map(({ operationName }) => operationName);
    expect(names).toHaveLength(11);
    expect(names).toContain('zero parent');
    expect(names).not.toContain('everything');
  });
});
