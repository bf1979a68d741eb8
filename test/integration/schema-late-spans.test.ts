import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defaultOptions, createStatements } from '../../src/schema/schema.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { PROTOBUF_TYPE, send, successOf } from '../support/clients/otlp-client.ts';
import { blockOf, insertBlock } from '../support/generators/blocks.ts';
import { Random } from '../support/generators/random.ts';
import { variedJson } from '../support/generators/varied-json.ts';
import { encodeRequest, type OtlpRequest } from '../support/oracle/otlp-request.ts';
import { startApp, type TestApp } from '../support/servers/app.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { until } from '../support/servers/collector.ts';

/* Spans that come late, from the future, or with a time that is none: what becomes of them, and of the others. */

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

function started(...starts: (bigint | undefined)[]): OtlpRequest {
  const spans = starts.map((startTimeUnixNano, i) => ({
    traceId: Buffer.alloc(16, 1),
    spanId: Buffer.from([1, 0, 0, 0, 0, 0, i >> 8, i & 255]),
    startTimeUnixNano,
    attributes: [],
    events: [],
    links: [],
  }));
  return { resourceSpans: [{ scopeSpans: [{ spans }] }] };
}

/** Nanoseconds, some time from now. */
function fromNow(ms: number): bigint {
  return BigInt(Date.now() + ms) * 1_000_000n;
}

describe('a span with a start time', () => {
  test.each([
    ['of now', () => fromNow(0), true],
    ['of a year ago', () => fromNow(-365 * DAY_MS), true],
    ['of 399 days ago', () => fromNow(-399 * DAY_MS), true],
    ['of 401 days ago', () => fromNow(-401 * DAY_MS), false],
    ['23 hours ahead', () => fromNow(23 * HOUR_MS), true],
    ['25 hours ahead', () => fromNow(25 * HOUR_MS), false],
    ['that is missing, and the end too', () => undefined, false],
    ['of 0, and no end', () => 0n, false],
    ['of the first seconds of 1970', () => 1_000_000_000n, false],
    ['in microseconds', () => fromNow(0) / 1000n, false],
    ['behind 2149, where the days of ClickHouse end', () => 5_680_281_600_000_000_000n, false],
    ['behind 2262, where its nanoseconds end', () => 2n ** 63n, false],
    ['of the largest number', () => 2n ** 64n - 1n, false],
  ])('%s is taken or left out, in both encodings', (_, start, taken) => {
    const request = started(start(), fromNow(0));
    const expected = taken
      ? { accepted: 2, rejected: 0 }
      : { accepted: 1, rejected: 1, rejections: [{ reason: 'bad_time', spans: 1, message: expect.stringContaining('SPAN_MAX_AGE_DAYS') }] };
    const encoder = new BlockEncoder('hive', Infinity, 400 * DAY_MS);
    expect(encoder.add([encodeRequest(request)], 'protobuf', 'target')).toEqual(expected);
    expect(encoder.add([variedJson(request, new Random(1))], 'json', 'target')).toEqual(expected);
    expect(encoder.rows).toBe(2 * expected.accepted);
  });

  test('of any kind is taken where no bound is set', () => {
    const encoder = new BlockEncoder('hive');
    expect(encoder.add([encodeRequest(started(1n, 2n ** 63n, 2n ** 64n - 1n, undefined))], 'protobuf', 'target')).toMatchObject({
      accepted: 4,
      rejected: 0,
      adjustments: [{ reason: 'late_time', spans: 2 }],
    });
  });
});

async function createTable(database: string, ttlDays: number): Promise<void> {
  for (const statement of createStatements({ ...defaultOptions, database, table: 'otel_traces', ttlDays }))
    await clickhouse.command(statement);
}

describe('in ClickHouse', () => {
  test('a span that is a year old is stored beside those of today', async () => {
    await createTable('kept', 0);
    await insertBlock(clickhouse, blockOf(started(fromNow(-365 * DAY_MS), fromNow(0), 0n), 'hive'), 'kept.otel_traces');
    expect(await clickhouse.query('SELECT count() AS spans FROM kept.otel_traces')).toEqual([{ spans: '3' }]);
  });

  test('a span that is older than the TTL is gone at the next merge, and takes none of the others with it', async () => {
    await createTable('expiring', 30);
    await insertBlock(
      clickhouse,
      blockOf(started(fromNow(-40 * DAY_MS), fromNow(-20 * DAY_MS), fromNow(0), 0n), 'hive'),
      'expiring.otel_traces',
    );
    await clickhouse.command('OPTIMIZE TABLE expiring.otel_traces FINAL');
    expect(await clickhouse.query("SELECT dateDiff('day', Timestamp, now()) AS age FROM expiring.otel_traces ORDER BY age")).toEqual([
      { age: '0' },
      { age: '20' },
    ]);
  });

  test('a client that sends ten thousand days makes no more partitions than the bound has days', async () => {
    await createTable('bounded', 0);
    const encoder = new BlockEncoder('hive', Infinity, 10 * DAY_MS);
    // Half a day from the bound, so that it does not matter how long this takes.
    const days = Array.from({ length: 10_000 }, (_, day) => fromNow((0.5 - day) * DAY_MS));
    expect(encoder.add([encodeRequest(started(...days))], 'protobuf', 'target')).toMatchObject({ accepted: 11, rejected: 9_989 });
    await insertBlock(clickhouse, encoder.seal().frame, 'bounded.otel_traces');
    expect(await clickhouse.query("SELECT uniq(partition) <= 11 AS bounded FROM system.parts WHERE database = 'bounded'")).toEqual([
      { bounded: 1 },
    ]);
  });
});

describe('the collector', () => {
  let collector: TestApp;

  beforeAll(async () => {
    collector = await startApp({
      CLICKHOUSE_URL: clickhouse.url,
      CLICKHOUSE_CREATE_SCHEMA: 'true',
      DISABLE_AUTH: 'true',
      SPAN_MAX_AGE_DAYS: '30',
    });
    await until(async () => (await send(`${collector.urls.admin}/ready`, '', { method: 'GET' })).status === 200, 'the app is ready');
  });
  afterAll(() => collector[Symbol.asyncDispose]());

  test('stores what it can, tells the sender of the rest, and counts it', async () => {
    const body = encodeRequest(started(fromNow(-31 * DAY_MS), fromNow(0), 2n ** 64n - 1n));
    const answer = await send(`${collector.urls.otlp}/v1/traces`, body, { headers: { ...PROTOBUF_TYPE, 'x-hive-target-ref': 'late' } });
    expect(answer.status).toBe(200);
    expect(successOf(answer)).toEqual({
      partialSuccess: { rejectedSpans: '2', errorMessage: expect.stringContaining('2 spans started longer ago') },
    });
    const metrics = await send(`${collector.urls.admin}/metrics`, '', { method: 'GET' });
    expect(metrics.body.toString()).toContain('hive_collector_rejected_spans_total{reason="bad_time"} 2');
    expect(await clickhouse.query("SELECT count() AS spans FROM otel_traces WHERE SpanAttributes['hive.target_id'] = 'late'")).toEqual([
      { spans: '1' },
    ]);
  });

  test('does not refuse a request of which every span is too old', async () => {
    const answer = await send(`${collector.urls.otlp}/v1/traces`, encodeRequest(started(fromNow(-31 * DAY_MS))), {
      headers: { ...PROTOBUF_TYPE, 'x-hive-target-ref': 'late' },
    });
    expect(answer.status).toBe(200);
    expect(successOf(answer)).toMatchObject({ partialSuccess: { rejectedSpans: '1' } });
  });
});
