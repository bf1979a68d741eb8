import { beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { createClickHouseClient } from '../../src/storage/clickhouse.ts';
import { RepeatedInserts } from '../../src/storage/repeated-inserts.ts';
import { createStatements } from '../../src/storage/table.ts';
import { BlockEncoder, type SealedBlock } from '../../src/transcode/block-encoder.ts';
import { Random } from '../support/generators/random.ts';
import { type RingBatching, startRingBatching, stored, untilStored } from '../support/generators/ring-batching.ts';
import { encodeRequest } from '../support/oracle/otlp-request.ts';
import type { ClickHouseProxy } from '../support/servers/clickhouse-proxy.ts';
import type { TestClickHouse } from '../support/servers/clickhouse.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { proxiedClickHouse } from '../support/servers/proxied-clickhouse.ts';

/*
 * A ClickHouse killed after it has noted an insert's token, and before the insert's part has its name, takes the repeated
 * insert for stored and has none of it. Here the part is removed while the server is away, which is the same state on its
 * disk. test/e2e/chaos.test.ts has the real thing, now and then.
 */

const USERS = `<profiles>
  <binary><input_format_native_decode_types_in_binary_format>1</input_format_native_decode_types_in_binary_format></binary>
</profiles><users>
  <default><password/><networks><ip>127.0.0.1</ip></networks></default>
  <writer><password/><networks><ip>127.0.0.1</ip></networks><grants><query>GRANT INSERT ON *.*</query></grants></writer>
  <poor><password/><networks><ip>127.0.0.1</ip></networks>
    <grants><query>GRANT INSERT, SELECT(Timestamp, TraceId, SpanId) ON default.otel_traces</query></grants></poor>
  <binary><password/><networks><ip>127.0.0.1</ip></networks><profile>binary</profile></binary>
  <blind><password/><networks><ip>127.0.0.1</ip></networks>
    <databases><default><otel_traces><filter>0</filter></otel_traces></default></databases></blind>
</users>`;

const DAY_NS = 86_400n * 10n ** 9n;
const SPANS_A_DAY = 50;
/** Noon of a day that the table's TTL still keeps. */
const NOON_MS = Math.floor(Date.now() / 86_400_000) * 86_400_000 - 7.5 * 86_400_000;
const NOON = BigInt(NOON_MS) * 1_000_000n;
/** The partitions of that day, and of the day before. */
const [DAY, DAY_BEFORE] = [0, 1].map((days) => `partition = '${new Date(NOON_MS - days * 86_400_000).toISOString().slice(0, 10)}'`);
/** Of a clock that is wrong. As a Date and a DateTime it is another. */
const YEAR_2160 = BigInt(Date.UTC(2160, 0, 1)) * 1_000_000n;

let clickhouse: TestClickHouse;
let proxy: ClickHouseProxy;
let rings = 0;
const server = proxiedClickHouse(USERS);
const { dir } = server;
const random = new Random(11);

beforeEach(async () => {
  ({ clickhouse, proxy } = server);
  proxy.restore();
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  await clickhouse.command(createStatements('default', 'otel_traces')[1]);
});

const start = (env = {}, ring = `${dir.path}/${rings++}`) =>
  startRingBatching(ring, [proxy.url], { CLICKHOUSE_CREATE_SCHEMA: 'false', CLICKHOUSE_TIMEOUT_MS: '5000', ...env });

/** A block of spans that began at these times. */
function blockOf(times: readonly bigint[]): SealedBlock {
  const spans = times.map((startTimeUnixNano) => ({
    traceId: random.bytes(16),
    spanId: random.bytes(8),
    name: 'late',
    startTimeUnixNano,
    attributes: [],
    events: [],
    links: [],
  }));
  const encoder = new BlockEncoder('hive');
  encoder.add([encodeRequest({ resourceSpans: [{ scopeSpans: [{ spans }] }] })], 'protobuf', 'target');
  return encoder.seal();
}

/** Spans of some days, a part for each in the table, in two blocks. */
async function pushDays(batching: RingBatching, days: number): Promise<void> {
  const times = () =>
    Array.from({ length: (days * SPANS_A_DAY) / 2 }, (_, i) => NOON - BigInt(i % days) * DAY_NS + BigInt(random.between(0, 1_000_000)));
  await batching.pushTogether([blockOf(times()), blockOf(times())]);
}

/** Until the insert is stored, and its answer lost. */
async function pushUnanswered(batching: RingBatching, days = 1): Promise<void> {
  await batching.storage.availability.whenUp();
  // Not yet the answers to probes: one before the insert would keep it from being sent.
  proxy.fail({ kind: 'cut answer' });
  await pushDays(batching, days);
  await untilStored([clickhouse], days * SPANS_A_DAY);
  proxy.fail({ kind: 'cut answer' }, 'all');
}

/** @param then before the collector finds the server again */
async function loseParts(condition?: string, then = () => {}): Promise<void> {
  await clickhouse.losePartsOf('otel_traces', condition);
  proxy.restore();
  then();
}

/** Everything there once. @param restored rows that the collector has inserted again */
async function expectAllStored(batching: RingBatching, days: number, restored: number): Promise<void> {
  await batching.drained();
  const rows = days * SPANS_A_DAY;
  expect(await stored([clickhouse])).toEqual({ rows, spans: rows });
  expect(batching.storage.stats.restoredRows).toBe(restored);
}

describe('what a killed server has lost, and takes for stored, is inserted again', () => {
  test('all of an insert', async () => {
    await using batching = start();
    await pushUnanswered(batching);
    await loseParts();
    await expectAllStored(batching, 1, SPANS_A_DAY);
  });

  test('the part of one day of several', async () => {
    await using batching = start();
    await pushUnanswered(batching, 3);
    await loseParts(DAY_BEFORE);
    await expectAllStored(batching, 3, SPANS_A_DAY);
  });

  test('the parts of many days', async () => {
    await using batching = start();
    await pushUnanswered(batching, 60);
    await loseParts('toDayOfMonth(toDate(partition)) % 2 = 0');
    await batching.drained();
    expect(await stored([clickhouse])).toEqual({ rows: 60 * SPANS_A_DAY, spans: 60 * SPANS_A_DAY });
    expect(batching.storage.stats.restoredRows).toBeGreaterThan(25 * SPANS_A_DAY);
  });

  test('when the collector was killed as well', async () => {
    const ring = `${dir.path}/${rings++}`;
    {
      await using batching = start({}, ring);
      await pushUnanswered(batching, 2);
    }
    await loseParts();
    await using batching = start({}, ring);
    await expectAllStored(batching, 2, 2 * SPANS_A_DAY);
  });

  test('once, when the answer to that is lost', async () => {
    await using batching = start();
    await pushUnanswered(batching, 2);
    await loseParts(DAY_BEFORE, () => proxy.fail({ kind: 'cut answer' }, 'inserts of lost rows', 1));
    await expectAllStored(batching, 2, 0);
  });

  test('when that is lost as well', async () => {
    await using batching = start();
    await pushUnanswered(batching, 2);
    await loseParts(DAY_BEFORE, () => proxy.fail({ kind: 'cut answer' }, 'inserts of lost rows'));
    await untilStored([clickhouse], 2 * SPANS_A_DAY);
    await loseParts(DAY_BEFORE);
    await batching.drained();
    expect(await stored([clickhouse])).toEqual({ rows: 2 * SPANS_A_DAY, spans: 2 * SPANS_A_DAY });
  });

  test.each([
    ['FixedString(32)', 'FixedString(16)'],
    ['LowCardinality(String)', 'LowCardinality(FixedString(16))'],
  ])('in columns of other types: %s, %s', async (traceId, spanId) => {
    await clickhouse.command('ALTER TABLE otel_traces DROP INDEX IF EXISTS idx_trace_id');
    await clickhouse.command(`ALTER TABLE otel_traces MODIFY COLUMN TraceId ${traceId}, MODIFY COLUMN SpanId ${spanId}`);
    await using batching = start();
    await pushUnanswered(batching, 2);
    await loseParts(DAY);
    await expectAllStored(batching, 2, SPANS_A_DAY);
  });

  test('by a user whose profile has blocks read in another way', async () => {
    await using batching = start({ CLICKHOUSE_USERNAME: 'binary' });
    await pushUnanswered(batching, 2);
    await loseParts(DAY);
    await expectAllStored(batching, 2, SPANS_A_DAY);
  });

  test('by a user who may read only what rows are known by', async () => {
    await using batching = start({ CLICKHOUSE_USERNAME: 'poor' });
    await pushUnanswered(batching, 2);
    await loseParts(DAY);
    await expectAllStored(batching, 2, SPANS_A_DAY);
  });
});

test('a repeated insert that is there is left as it is', async () => {
  await using batching = start();
  await pushUnanswered(batching, 3);
  proxy.restore();
  await expectAllStored(batching, 3, 0);
});

describe('nothing waits, or is stored twice, where rows are not found that are there', () => {
  test('as the user may not read', async () => {
    await using batching = start({ CLICKHOUSE_USERNAME: 'writer' });
    await pushUnanswered(batching, 2);
    proxy.restore();
    await expectAllStored(batching, 2, 0);
  });

  test('as a policy hides them', async () => {
    await using batching = start({ CLICKHOUSE_USERNAME: 'blind' });
    await pushDays(batching, 1);
    await batching.drained();
    await clickhouse.command('TRUNCATE TABLE otel_traces');
    await pushUnanswered(batching, 2);
    proxy.restore();
    await expectAllStored(batching, 2, 0);
  });

  test('as a policy hides them, and the first insert of all is a repeated one', async () => {
    await using batching = start({ CLICKHOUSE_USERNAME: 'blind' });
    await pushUnanswered(batching, 2);
    proxy.restore();
    await expectAllStored(batching, 2, 0);
  });

  test('as ClickHouse passes over parts, their times being far apart', async () => {
    await clickhouse.command('ALTER TABLE otel_traces REMOVE TTL');
    await using batching = start();
    await batching.storage.availability.whenUp();
    proxy.fail({ kind: 'cut answer' });
    await batching.queue.push(blockOf(Array.from({ length: SPANS_A_DAY }, (_, i) => (i % 2 === 0 ? NOON : YEAR_2160))));
    await untilStored([clickhouse], SPANS_A_DAY);
    proxy.restore();
    await expectAllStored(batching, 1, 0);
  });

  test.each([
    ['never allows the search', 'max_rows_to_read=1', false],
    ['refuses the search, as it may not do later', 'max_columns_to_read=1', true],
  ])('as ClickHouse %s', async (_, parameter, isRetried) => {
    await using batching = start();
    await pushDays(batching, 1);
    await batching.drained();
    await clickhouse.command('TRUNCATE TABLE otel_traces');
    await pushUnanswered(batching, 2);
    proxy.restore();
    proxy.fail({ kind: 'parameters', text: parameter }, 'searches');
    await expectAllStored(batching, 2, 0);
    expect(batching.storage.lastError?.message.startsWith('Limit for')).toBe(isRetried);
  });
});

test("an insert whose rows can't be looked for goes to no other server", async () => {
  const config = loadConfig({ CLICKHOUSE_URL: `http://127.0.0.1:${(await freePorts(1))[0]}`, DISABLE_AUTH: 'true' });
  const client = createClickHouseClient(config);
  const repeated = new RepeatedInserts(config, { restored: () => {}, unsearchable: () => {} });
  expect(await repeated.verifyStored(client, [blockOf([NOON]).frame], 'token', {})).toMatchObject({
    status: 'retry',
    error: { code: 'ECONNREFUSED', nothingStored: false },
  });
  await client.close();
});
