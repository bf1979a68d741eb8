import { Logger } from '@nestjs/common';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { createStatements, defaultOptions, type SchemaOptions } from '../../src/schema/schema.ts';
import { createClickHouseClient } from '../../src/storage/clickhouse.ts';
import { findMaxRowAge, oldestRow } from '../../src/storage/time-to-live.ts';
import { JSON_TYPE, PROTOBUF_TYPE, send, successOf, type ExportSuccess } from '../support/clients/otlp-client.ts';
import { Random } from '../support/generators/random.ts';
import { variedJson } from '../support/generators/varied-json.ts';
import { encodeRequest, type OtlpRequest } from '../support/oracle/otlp-request.ts';
import { startApp, type TestApp } from '../support/servers/app.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { CLUSTER_NAME, startCluster } from '../support/servers/cluster.ts';
import { until, type Environment } from '../support/servers/collector.ts';

/* Spans that the table's own TTL would drop at once are left out, and their sender is told. */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());
beforeEach(() => clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC'));

async function create(options: Partial<SchemaOptions>, on = clickhouse): Promise<void> {
  for (const statement of createStatements({ ...defaultOptions, database: 'default', table: 'otel_traces', ...options }))
    await on.command(statement);
}

async function maxRowAge(url = clickhouse.url): Promise<number | undefined> {
  const config = loadConfig({ CLICKHOUSE_URL: url, DISABLE_AUTH: 'true' });
  const client = createClickHouseClient(config);
  try {
    return await findMaxRowAge(client, config, true);
  } finally {
    await client.close();
  }
}

/** Forms that are understood: the oracle is what ClickHouse drops. */
const EXPRESSIONS: readonly (readonly [expression: string, type?: string])[] = [
  ['toDate(Timestamp) + toIntervalDay(30)'],
  ['toDate(Timestamp) + toIntervalDay(30)', "DateTime64(9, 'Pacific/Auckland')"],
  // One of the two has another date than the server now, whatever the time of day.
  ['toDate(Timestamp) + toIntervalDay(30)', "DateTime64(9, 'Pacific/Kiritimati')"],
  ['toDate(Timestamp) + toIntervalDay(30)', "DateTime64(9, 'Etc/GMT+12')"],
  ['toStartOfDay(Timestamp) + toIntervalDay(30)', "DateTime64(9, 'Pacific/Kiritimati')"],
  ['toStartOfDay(Timestamp) + toIntervalDay(30)', "DateTime64(9, 'Etc/GMT+12')"],
  ['toDate(Timestamp) + INTERVAL 1 MONTH'],
  ['toDate(Timestamp) + 30'],
  ['toDate(Timestamp) + toIntervalWeek(2) DELETE'],
  ['toDateTime(Timestamp) + INTERVAL 72 HOUR'],
  ['toDateTime(Timestamp) + INTERVAL 30 DAY'],
  ['toDateTime(Timestamp) + 86400'],
  ['toDateTime(Timestamp) + toIntervalYear(1)'],
  ['toStartOfDay(Timestamp) + toIntervalDay(3)'],
  ['toDateTime(Timestamp) + toIntervalDay(30), toDateTime(Timestamp) + toIntervalDay(3) WHERE id = 999'],
];

describe('the age from which on ClickHouse drops rows', () => {
  test.each(EXPRESSIONS)('is known for TTL %s %s', async (expression, type = 'DateTime64(9)') => {
    await clickhouse.command(`CREATE TABLE otel_traces (Timestamp ${type}, id UInt32) ENGINE = MergeTree ORDER BY id TTL ${expression}`);
    const limit = (await maxRowAge())!;
    expect(limit).toBeGreaterThan(23 * HOUR_MS);
    const ages = [limit - DAY_MS / 2, limit - 5 * MINUTE_MS, limit + 5 * MINUTE_MS, limit + DAY_MS / 2];
    const rows = ages.map((age, id) => `(fromUnixTimestamp64Milli(${Math.round(Date.now() - age)}), ${id})`);
    await clickhouse.command(`INSERT INTO otel_traces VALUES ${rows.join(', ')}`);
    await clickhouse.command('OPTIMIZE TABLE otel_traces FINAL');
    expect((await clickhouse.query<{ id: number }>('SELECT id FROM otel_traces ORDER BY id')).map(({ id }) => id)).toEqual([0, 1]);
  });

  // The oracle is ClickHouse's own addition, for rows every 20 minutes around the limit, on each day of 2027 and 2028.
  const zones = ['the server', 'Pacific/Kiritimati', 'Etc/GMT+12', 'Europe/Berlin'];
  const units = ['Day', 'Month', 'Quarter', 'Year'];
  test.each(zones.flatMap((zone) => units.map((unit) => [unit, zone])))(
    'is right on each day of two years, for TTLs by %s in the time zone of %s',
    async (unit, of) => {
      const zone = of === 'the server' ? '' : of;
      const inZone = zone === '' ? '' : `, '${zone}'`;
      for (const count of unit === 'Year' ? [1] : [1, 7]) {
        const interval = `toInterval${unit}(${count})`;
        const isDropped = {
          start: `row + ${interval} <= at`,
          day: `toStartOfDay(row) + ${interval} <= at`,
          date: `toDate(row) + ${interval} <= toDate(at, serverTimezone())`,
        };
        for (const [from, dropped] of Object.entries(isDropped)) {
          const oldest = oldestRow({ from: from as keyof typeof isDropped, unit, count }, 'at', zone);
          const wrong = await clickhouse.query(`
            WITH arrayMap(i -> at - ${interval} + toIntervalMinute(20 * i), range(-150, 450)) AS rows
            SELECT at, ${oldest} AS oldest FROM (
              SELECT toDateTime('2027-01-01 00:05:06'${inZone}) + toIntervalDay(number) + toIntervalHour(hour) AS at
              FROM numbers(731) ARRAY JOIN [2, 4, 16] AS hour
            ) WHERE arrayExists(row -> row > oldest AND ${dropped}, rows)
              OR NOT arrayExists(row -> row <= oldest AND row > oldest - 1800 AND ${dropped}, rows)
            LIMIT 5`);
          expect(wrong, `${from}, ${count}`).toEqual([]);
        }
      }
    },
  );

  test.each([
    ['no TTL', ''],
    ['a TTL of something else', 'TTL toDate(other) + toIntervalDay(3)'],
    ['a TTL for some rows', 'TTL toDate(Timestamp) + toIntervalDay(3) WHERE id = 1'],
    ['a TTL that is not understood', 'TTL toDate(Timestamp) + toIntervalDay(id)'],
  ])('is none with %s', async (_, ttl) => {
    await clickhouse.command(
      `CREATE TABLE otel_traces (Timestamp DateTime64(9), other DateTime, id UInt32) ENGINE = MergeTree ORDER BY id ${ttl}`,
    );
    expect(await maxRowAge()).toBe(Infinity);
  });

  test('is that of the tables behind a Distributed one', async () => {
    await using cluster = await startCluster();
    for (const server of cluster.servers) await create({ ttlDays: 30, distributed: CLUSTER_NAME }, server);
    const age = (await maxRowAge(cluster.servers[0].url))! / DAY_MS;
    expect(age).toBeGreaterThanOrEqual(29);
    expect(age).toBeLessThanOrEqual(30);
    // This server is none of the shards any more: those are asked.
    await cluster.servers[0].command('DROP TABLE otel_traces_local SYNC');
    expect((await maxRowAge(cluster.servers[0].url))! / DAY_MS).toBeCloseTo(age, 1);
  });
});

function started(...agesMs: number[]): OtlpRequest {
  const spans = agesMs.map((age, i) => ({
    traceId: Buffer.alloc(16, 1),
    spanId: Buffer.from([1, 0, 0, 0, 0, 0, 0, i]),
    name: 'query',
    startTimeUnixNano: BigInt(Math.round(Date.now() - age)) * 1_000_000n,
    attributes: [],
    events: [],
    links: [],
  }));
  return { resourceSpans: [{ scopeSpans: [{ spans }] }] };
}

async function start(env: Environment = {}): Promise<TestApp> {
  const app = await startApp({ CLICKHOUSE_URL: clickhouse.url, DISABLE_AUTH: 'true', ...env });
  await until(async () => (await send(`${app.urls.admin}/ready`, '', { method: 'GET' })).status === 200, 'the app is ready');
  return app;
}

async function export_(app: TestApp, request: OtlpRequest, json = false): Promise<ExportSuccess> {
  const body = json ? variedJson(request, new Random(1)) : encodeRequest(request);
  const answer = await send(`${app.urls.otlp}/v1/traces`, body, {
    headers: { ...(json ? JSON_TYPE : PROTOBUF_TYPE), 'x-hive-target-ref': 'ttl' },
  });
  expect(answer.status).toBe(200);
  return successOf(answer);
}

const LEFT_OUT = {
  partialSuccess: {
    rejectedSpans: '1',
    errorMessage: expect.stringMatching(/^1 span started longer ago than SPAN_MAX_AGE_DAYS or the table's TTL allows/),
  },
};

describe('with a TTL of 30 days, the collector', () => {
  beforeEach(() => create({ ttlDays: 30 }));

  test.each([
    ['on the main thread, with SPAN_MAX_AGE_DAYS at its default', {}],
    ['on the main thread, with SPAN_MAX_AGE_DAYS=0', { SPAN_MAX_AGE_DAYS: '0' }],
    ['in a worker thread', { TRANSCODE_INLINE_KB: '0' }],
    ['in a worker thread, with SPAN_MAX_AGE_DAYS=0', { TRANSCODE_INLINE_KB: '0', SPAN_MAX_AGE_DAYS: '0' }],
  ])('leaves older spans out %s', async (_, env: Environment) => {
    await using app = await start(env);
    for (const json of [true, false]) expect(await export_(app, started(31 * DAY_MS, 28 * DAY_MS, 0), json)).toEqual(LEFT_OUT);
    expect(await clickhouse.query('SELECT count() AS spans FROM otel_traces')).toEqual([{ spans: '4' }]);
    const metrics = await send(`${app.urls.admin}/metrics`, '', { method: 'GET' });
    expect(metrics.body.toString()).toContain('hive_collector_rejected_spans_total{reason="bad_time"} 2');
  });

  test('still goes by SPAN_MAX_AGE_DAYS where that is less', async () => {
    await using app = await start({ SPAN_MAX_AGE_DAYS: '3' });
    expect(await export_(app, started(4 * DAY_MS, 2 * DAY_MS))).toEqual(LEFT_OUT);
  });

  test('takes times ahead as SPAN_MAX_AGE_DAYS=0 says', async () => {
    await using app = await start({ SPAN_MAX_AGE_DAYS: '0' });
    expect(await export_(app, started(-3 * DAY_MS))).toEqual({});
  });

  test('says both at the start', async () => {
    const log = vi.spyOn(Logger.prototype, 'log');
    try {
      await using _ = await start();
      const line = log.mock.calls
        .flat()
        .find((one: unknown): one is { msg: string; ttlDays: number } => (one as { msg?: string }).msg === 'ClickHouse is available');
      expect(line).toMatchObject({ spanMaxAgeDays: 400 });
      expect(line!.ttlDays).toBeGreaterThanOrEqual(29);
      expect(line!.ttlDays).toBeLessThanOrEqual(30);
    } finally {
      log.mockRestore();
    }
  });

  test('goes by a TTL that is changed meanwhile', async () => {
    await using app = await start();
    expect(await export_(app, started(10 * DAY_MS))).toEqual({});
    await clickhouse.command('ALTER TABLE otel_traces MODIFY TTL toDateTime(Timestamp) + toIntervalDay(7)');
    await expect.poll(() => export_(app, started(10 * DAY_MS)), { timeout: 30_000, interval: 500 }).toEqual(LEFT_OUT);
  });
});

test('before ClickHouse was there, spans are taken as SPAN_MAX_AGE_DAYS says', async () => {
  await create({ ttlDays: 30 });
  await clickhouse.kill();
  await using app = await startApp({ CLICKHOUSE_URL: clickhouse.url, DISABLE_AUTH: 'true', ACK_MODE: 'received' });
  const before = await export_(app, started(31 * DAY_MS));
  await clickhouse.restart();
  expect(before).toEqual({});
  await expect.poll(() => export_(app, started(31 * DAY_MS)), { timeout: 20_000, interval: 200 }).toEqual(LEFT_OUT);
});
