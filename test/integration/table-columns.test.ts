import type { ClickHouseClient } from '@clickhouse/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { spans } from '../../src/schema/tables.ts';
import { createClickHouseClient } from '../../src/storage/clickhouse.ts';
import { insertBlocks, type InsertOutcome } from '../../src/storage/insert.ts';
import { retryIfTableUnfit, checkTable } from '../../src/storage/table-check.ts';
import { blockOf, insertBlock } from '../support/generators/blocks.ts';
import type { OtlpRequest } from '../support/oracle/otlp-request.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';

/*
 * Tables whose columns differ from those of blocks, on a real ClickHouse: what is said to be kept is inserted, and read back.
 */

const START = 1_763_000_000_123_456_789n;
const request: OtlpRequest = {
  resourceSpans: [
    {
      resource: { attributes: [{ key: 'service.name', value: { stringValue: 'gateway' } }] },
      scopeSpans: [
        {
          spans: [
            {
              traceId: Buffer.alloc(16, 0x11),
              spanId: Buffer.alloc(8, 0x22),
              parentSpanId: Buffer.alloc(8, 0x33),
              name: 'query',
              kind: 2,
              startTimeUnixNano: START,
              endTimeUnixNano: START + 5_000_000_000n,
              status: { code: 2 },
              attributes: [],
              events: [{ timeUnixNano: START, name: 'event', attributes: [{ key: 'a.b', value: { stringValue: 'c' } }] }],
              links: [{ traceId: Buffer.alloc(16, 0x44), spanId: Buffer.alloc(8, 0x55), attributes: [] }],
            },
          ],
        },
      ],
    },
  ],
};

let clickhouse: TestClickHouse;
let client: ClickHouseClient;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  client = createClickHouseClient(loadConfig(environment()));
});
afterAll(async () => {
  await client.close();
  await clickhouse[Symbol.asyncDispose]();
});

/** The table of spans, with the types of some columns changed; null leaves one out. */
async function createTable(changes: Readonly<Record<string, string | null>>, more = ''): Promise<void> {
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  const columns = spans.columns.flatMap(({ name, type }) => (changes[name] === null ? [] : `\`${name}\` ${changes[name] ?? type}`));
  await clickhouse.command(
    `CREATE TABLE otel_traces (${columns.join(', ')}${more}) ENGINE = MergeTree ORDER BY tuple()
     SETTINGS non_replicated_deduplication_window = 100`,
  );
}

const environment = () => ({ CLICKHOUSE_URL: clickhouse.url, DISABLE_AUTH: 'true' });

function check(): Promise<string[]> {
  return checkTable(client, loadConfig(environment()));
}

async function problem(): Promise<string> {
  return check().then(
    () => 'none',
    (error: Error) => error.message,
  );
}

const ATTRIBUTES = { 'service.name': 'gateway', 'hive.target_id': 'target' };
const KINDS =
  "'SPAN_KIND_UNSPECIFIED', 'SPAN_KIND_INTERNAL', 'SPAN_KIND_SERVER', 'SPAN_KIND_CLIENT', 'SPAN_KIND_PRODUCER', 'SPAN_KIND_CONSUMER'";

describe('a column of another type that keeps every value is taken', () => {
  test.each([
    ['Timestamp', "DateTime64(9, 'UTC')", '2025-11-13 02:13:20.123456789'],
    ['Timestamp', 'Nullable(DateTime64(9))', '2025-11-13 02:13:20.123456789'],
    ['TraceId', 'FixedString(32)', '11'.repeat(16)],
    ['TraceId', 'LowCardinality(String)', '11'.repeat(16)],
    ['SpanId', 'FixedString(16)', '22'.repeat(8)],
    ['SpanName', 'String', 'query'],
    ['SpanName', 'Nullable(String)', 'query'],
    ['SpanName', 'LowCardinality(Nullable(String))', 'query'],
    ['SpanKind', `Enum8(${KINDS})`, 'SPAN_KIND_SERVER'],
    ['SpanKind', 'String', 'SPAN_KIND_SERVER'],
    ['StatusCode', "Enum16('STATUS_CODE_UNSET', 'STATUS_CODE_OK', 'STATUS_CODE_ERROR')", 'STATUS_CODE_ERROR'],
    ['Duration', 'Int64', '5000000000'],
    ['Duration', 'UInt128', '5000000000'],
    ['Duration', 'Nullable(UInt64)', '5000000000'],
    ['ResourceAttributes', 'Map(String, String)', ATTRIBUTES],
    ['ResourceAttributes', 'Map(LowCardinality(String), LowCardinality(String))', ATTRIBUTES],
    ['ResourceAttributes', 'Map(LowCardinality(String), Nullable(String))', ATTRIBUTES],
    [
      'ResourceAttributes',
      'Array(Tuple(key String, value String))',
      [
        { key: 'service.name', value: 'gateway' },
        { key: 'hive.target_id', value: 'target' },
      ],
    ],
    ['Events.Timestamp', "Array(DateTime64(9, 'UTC'))", ['2025-11-13 02:13:20.123456789']],
    ['Events.Name', 'Array(String)', ['event']],
    ['Events.Name', 'Array(Nullable(String))', ['event']],
    ['Events.Attributes', 'Array(Map(String, String))', [{ 'a.b': 'c' }]],
    ['Links.TraceId', 'Array(FixedString(32))', ['44'.repeat(16)]],
    ['Links.TraceId', 'Array(LowCardinality(String))', ['44'.repeat(16)]],
  ])('%s as %s', async (name, type, value) => {
    await createTable({ [name]: type });
    expect(await check()).toEqual([]);
    await insertBlock(clickhouse, blockOf(request, 'hive'));
    expect(await clickhouse.query(`SELECT \`${name}\` AS value FROM otel_traces SETTINGS session_timezone = 'UTC'`)).toEqual([{ value }]);
  });
});

describe('a column that keeps less is taken with a warning', () => {
  test.each([
    ['Timestamp', 'DateTime64(3)', 'keeps 3 of 9 digits', '2025-11-13 02:13:20.123'],
    ['Timestamp', 'DateTime', 'whole seconds', '2025-11-13 02:13:20'],
    ['Duration', 'Float64', '53 of 64 bits', 5e9],
    ['ResourceAttributes', 'JSON', 'every value is text', { service: { name: 'gateway' }, hive: { target_id: 'target' } }],
    ['SpanAttributes', "JSON(max_dynamic_paths = 16, SKIP REGEXP 'secret')", 'every value is text', { hive: { target_id: 'target' } }],
    ['SpanAttributes', 'JSON(`hive.target_id` String)', 'every value is text', { hive: { target_id: 'target' } }],
    ['Events.Attributes', 'Array(JSON)', 'every value is text', [{ a: { b: 'c' } }]],
    ['Events.Timestamp', 'Array(DateTime64(6))', 'keeps 6 of 9 digits', ['2025-11-13 02:13:20.123456']],
  ])('%s as %s', async (name, type, warning, value) => {
    await createTable({ [name]: type });
    expect(await check()).toEqual([expect.stringMatching(new RegExp(`${name} as .*${warning}`))]);
    await insertBlock(clickhouse, blockOf(request, 'hive'));
    expect(await clickhouse.query(`SELECT \`${name}\` AS value FROM otel_traces SETTINGS session_timezone = 'UTC'`)).toEqual([{ value }]);
  });
});

describe('a column that would not keep what it is given is refused, by name', () => {
  test.each([
    ['Timestamp', 'Int64', 'seconds instead of nanoseconds'],
    ['Timestamp', 'String', 'not a time with nanoseconds'],
    ['TraceId', 'FixedString(16)', "can't hold any text"],
    ['TraceId', 'UUID', "can't hold any text"],
    ['SpanName', 'FixedString(32)', "can't hold any text"],
    ['SpanKind', "Enum8('Server', 'Client')", "lacks 'SPAN_KIND_UNSPECIFIED', 'SPAN_KIND_INTERNAL'"],
    ['SpanKind', 'Int8', "can't hold any text"],
    ['StatusCode', 'Int16', "can't hold any text"],
    ['Duration', 'UInt32', 'wraps'],
    ['Duration', 'String', 'not a 64-bit number'],
    ['ResourceAttributes', 'String', 'neither a Map nor JSON'],
    ['SpanAttributes', 'Map(String, UInt64)', 'not all text'],
    ['SpanAttributes', 'Map(String, Variant(String, Int64))', 'not all text'],
    ['SpanAttributes', 'JSON(`http.status_code` UInt16)', 'does not accept text'],
    ['Events.Name', 'String', 'not an Array'],
    ['Events.Timestamp', 'Array(UInt64)', 'seconds instead of nanoseconds'],
    ['Links.Attributes', 'Array(String)', 'neither a Map nor JSON'],
    ['ServiceName', "String MATERIALIZED ResourceAttributes['service.name']", 'nothing can be inserted'],
    ['ScopeName', "String ALIAS ''", 'nothing can be inserted'],
  ])('%s as %s', async (name, type, reason) => {
    await createTable({ [name]: type });
    const message = await problem();
    expect(message).toContain(name);
    expect(message).toContain(reason);
  });

  test('all of them in one message', async () => {
    await createTable({ Duration: 'UInt32', StatusMessage: null, Timestamp: 'Int64' });
    expect(await problem()).toMatch(/has Timestamp as Int64.*; and it has Duration as UInt32.*; and it has no column StatusMessage/);
  });

  test('events that are one column, as the table was created with flatten_nested = 0', async () => {
    await createTable(
      { 'Events.Timestamp': null, 'Events.Name': null, 'Events.Attributes': null },
      ', Events Array(Tuple(Timestamp DateTime64(9), Name String, Attributes Map(String, String)))',
    );
    expect(await problem()).toContain('has no column Events.Timestamp, as Events is one column: it was created with flatten_nested = 0');
  });
});

async function fix(message: string, pattern: RegExp): Promise<void> {
  expect(message).toMatch(pattern);
  await clickhouse.command(pattern.exec(message)![1]);
  expect(await check()).toEqual([]);
}

describe('a column that is missing is named, with the statement that fixes it', () => {
  test('when nothing looks like it', async () => {
    await createTable({ StatusMessage: null });
    await fix(await problem(), /has no column StatusMessage \((ALTER .* ADD COLUMN .*)\)\. Inserts/);
  });

  test.each(['status_message', 'SOMETHING_ELSE'])('when it was renamed to %s', async (name) => {
    await createTable({ StatusMessage: null }, `, ${name} String`);
    await fix(await problem(), new RegExp(`if it is now called ${name}, (ALTER .* RENAME COLUMN .*); else ALTER`));
  });
});

test('further columns get their defaults, whatever their kind', async () => {
  await createTable(
    {},
    `, inserted_at DateTime DEFAULT now(), tenant String MATERIALIZED SpanAttributes['hive.target_id'],
     n UInt8, list Array(String) ALIAS mapKeys(SpanAttributes)`,
  );
  expect(await check()).toEqual([]);
  await insertBlock(clickhouse, blockOf(request, 'hive'));
  expect(await clickhouse.query('SELECT tenant, n, list, inserted_at > 0 AS inserted FROM otel_traces')).toEqual([
    { tenant: 'target', n: 0, list: ['hive.target_id'], inserted: 1 },
  ]);
});

async function insert(block: Buffer): Promise<InsertOutcome> {
  const config = loadConfig(environment());
  return retryIfTableUnfit(client, config, await insertBlocks(client, config, [block], 'token'));
}

describe('an insert that ClickHouse refuses for its values', () => {
  test('is not to blame when the table has changed, and is stored when that is fixed', async () => {
    await createTable({ SpanKind: 'Int8' });
    expect(await insert(blockOf(request, 'hive'))).toMatchObject({ status: 'retry' });
    await clickhouse.command('ALTER TABLE otel_traces MODIFY COLUMN SpanKind String');
    expect(await insert(blockOf(request, 'hive'))).toEqual({ status: 'inserted' });
  });

  test('is to blame when the table fits', async () => {
    await createTable({});
    expect(await insert(Buffer.from('this is no zstd frame'))).toMatchObject({ status: 'poison' });
  });
});
