import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EXPORT, grpcClient } from '../support/clients/grpc-client.ts';
import { type Headers, JSON_TYPE, PROTOBUF_TYPE } from '../support/clients/otlp-client.ts';
import { connectRaw, head } from '../support/clients/raw-socket.ts';
import { gatewayProtobuf, hiveGatewayBatch, type Payload } from '../support/generators/payloads.ts';
import { accountsOf, expectBalance } from '../support/oracle/span-accounts.ts';
import { storedRows } from '../support/oracle/stored-rows.ts';
import { type ClickHouseProxy, startProxy } from '../support/servers/clickhouse-proxy.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, type Environment, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/* A request that its sender repeats while its first insert is still under way, as with a ClickHouse Cloud that wakes up. */

const ACK_TIMEOUT_MS = 2_000;
const SPANS = 4;

let clickhouse: TestClickHouse;
let proxy: ClickHouseProxy;
let collector: Collector;
let nextSeed = 1;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  proxy = await startProxy(clickhouse);
  collector = await start({});
});
afterAll(async () => {
  await collector[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});
beforeEach(() => proxy.restore());

async function start(env: Environment): Promise<Collector> {
  const [grpcPort] = await freePorts(1);
  return startCollector({
    clickhouse: proxy,
    env: { ACK_TIMEOUT_MS: String(ACK_TIMEOUT_MS), GRPC_PORT: String(grpcPort), CORS_ALLOWED_ORIGINS: 'https://app.example.com', ...env },
  });
}

const small = () => gatewayProtobuf({ spans: SPANS, seed: nextSeed++ });
const spansStored = async ({ traceIds }: Payload) => (await storedRows(clickhouse, traceIds)).length;
const status = async (to: Collector, { body }: Payload, headers: Headers = PROTOBUF_TYPE) => (await to.send(body, headers)).status;

async function expectBalanced(of: Collector): Promise<void> {
  await until(async () => (await of.metrics()).get('hive_collector_requests_in_hand') === 0, 'all have their answers');
  expectBalance(accountsOf(await of.metrics()));
}

interface Way {
  readonly name: string;
  readonly make: () => Payload;
  readonly send: (payload: Payload) => Promise<number>;
}

const LARGE_SPANS = 4_000;
const overHttp =
  (headers: Headers, change: (body: Buffer) => Buffer = (body) => body) =>
  async ({ body }: Payload) =>
    (await collector.send(change(body), headers)).status;

const WAYS: readonly Way[] = [
  { name: 'Protobuf', make: small, send: overHttp(PROTOBUF_TYPE) },
  { name: 'JSON', make: () => hiveGatewayBatch({ spans: SPANS, seed: nextSeed++ }), send: overHttp(JSON_TYPE) },
  { name: 'gzip', make: small, send: overHttp({ ...PROTOBUF_TYPE, 'content-encoding': 'gzip' }, (body) => gzipSync(body)) },
  { name: 'through the routers', make: small, send: overHttp({ ...PROTOBUF_TYPE, origin: 'https://app.example.com' }) },
  {
    name: 'a large body, which a worker thread parses',
    make: () => gatewayProtobuf({ spans: LARGE_SPANS, seed: nextSeed++ }),
    send: overHttp(PROTOBUF_TYPE),
  },
  {
    name: 'gRPC',
    make: small,
    async send({ body }) {
      using client = grpcClient(collector.grpcPort!);
      const { code } = await client.call(EXPORT, body, { 'x-hive-target-ref': 'target-1' });
      return code === 'OK' ? 200 : code === 'UNAVAILABLE' ? 503 : 0;
    },
  },
];

describe('the same body, sent three times while its first insert is under way', () => {
  test.each(WAYS)('is answered 503, 503 and 200, and stored once: $name', async ({ make, send }) => {
    const payload = make();
    const insertsBefore = proxy.inserts;
    proxy.fail({ kind: 'late answer', ms: 2.5 * ACK_TIMEOUT_MS }, 'inserts', 1);
    expect([await send(payload), await send(payload), await send(payload)]).toEqual([503, 503, 200]);

    const rows = await storedRows(clickhouse, payload.traceIds);
    expect(rows.length).toBe(new Set(rows.map(({ TraceId, SpanId }) => TraceId + SpanId)).size);
    expect(rows.length).toBe(payload.body.length > 100_000 ? LARGE_SPANS : SPANS);
    expect(proxy.inserts).toBe(insertsBefore + 1);
    await expectBalanced(collector);
  });
});

test('a retry of a request that was stored too late is not stored again; once acknowledged, the same request is a new one', async () => {
  const payload = small();
  proxy.fail({ kind: 'late answer', ms: 1.5 * ACK_TIMEOUT_MS }, 'inserts', 1);
  const lateBefore = accountsOf(await collector.metrics()).storedAfterRefusal;
  expect(await status(collector, payload)).toBe(503);
  await until(async () => accountsOf(await collector.metrics()).storedAfterRefusal > lateBefore, 'it is stored');
  expect(await status(collector, payload)).toBe(200);
  expect(await spansStored(payload)).toBe(SPANS);
  await expectBalanced(collector);

  expect(await status(collector, payload)).toBe(200);
  expect(await spansStored(payload)).toBe(2 * SPANS);
  await expectBalanced(collector);
});

test('another target, another encoding and other bytes are stored for themselves', async () => {
  const payload = small();
  const other = small();
  proxy.fail({ kind: 'late answer', ms: 1.5 * ACK_TIMEOUT_MS }, 'inserts', 1);
  expect(await status(collector, payload)).toBe(503);
  const answers = await Promise.all([
    status(collector, payload),
    status(collector, payload, { ...PROTOBUF_TYPE, 'x-hive-target-ref': 'target-2' }),
    status(collector, other),
  ]);
  expect(answers).toEqual([200, 200, 200]);
  const rows = await storedRows(clickhouse, payload.traceIds);
  expect(rows.map(({ SpanAttributes }) => SpanAttributes['hive.target_id']).toSorted()).toEqual([
    ...Array.from({ length: SPANS }, () => 'target-1'),
    ...Array.from({ length: SPANS }, () => 'target-2'),
  ]);
  expect(await spansStored(other)).toBe(SPANS);
  await expectBalanced(collector);
});

test('two that send the same at the same moment are two', async () => {
  const payload = small();
  expect(await Promise.all([status(collector, payload), status(collector, payload)])).toEqual([200, 200]);
  expect(await spansStored(payload)).toBe(2 * SPANS);
});

test('a sender that has gone finds its spans again; and what waits in the queue stays there as long as it does', async () => {
  await using patient = await start({ ACK_TIMEOUT_MS: '4000', BATCH_WORKERS: '1' });
  const [first, second] = [small(), small()];
  proxy.fail({ kind: 'late answer', ms: 4_500 }, 'inserts', 1);
  const insertsBefore = proxy.inserts;
  const firstStatus = status(patient, first);
  await until(() => proxy.inserts > insertsBefore, 'the first is under way');
  {
    using leaving = await connectRaw(patient.url);
    leaving.write(
      Buffer.concat([
        Buffer.from(head({ 'x-hive-target-ref': 'target-1', ...PROTOBUF_TYPE, 'content-length': String(second.body.length) })),
        second.body,
      ]),
    );
    await delay(1_500);
  }
  expect(await status(patient, second)).toBe(200);
  expect(await firstStatus).toBe(503);
  expect(await spansStored(second)).toBe(SPANS);
  expect(accountsOf(await patient.metrics()).joined).toBe(SPANS);
  await expectBalanced(patient);
});

test('what was thrown away unsent is stored when it comes again', async () => {
  await using busy = await start({ BATCH_WORKERS: '1' });
  const [first, second] = [small(), small()];
  proxy.fail({ kind: 'late answer', ms: 2 * ACK_TIMEOUT_MS }, 'inserts', 1);
  const insertsBefore = proxy.inserts;
  const firstStatus = status(busy, first);
  await until(() => proxy.inserts > insertsBefore, 'the first is under way');
  expect([await status(busy, second), await firstStatus]).toEqual([503, 503]);
  await until(async () => (await busy.metrics()).get('hive_collector_inserts_under_way') === 0, 'the first is stored');
  expect(await status(busy, second)).toBe(200);
  expect(await spansStored(second)).toBe(SPANS);
  await expectBalanced(busy);
});

test('with JOIN_REPEATED_REQUESTS=false, every one is stored', async () => {
  // Time enough for the second one, whose insert waits for the first.
  const ackTimeoutMs = 3 * ACK_TIMEOUT_MS;
  await using plain = await start({ JOIN_REPEATED_REQUESTS: 'false', ACK_TIMEOUT_MS: String(ackTimeoutMs) });
  const payload = small();
  proxy.fail({ kind: 'late answer', ms: 1.2 * ackTimeoutMs }, 'inserts', 1);
  expect([await status(plain, payload), await status(plain, payload)]).toEqual([503, 200]);
  await until(async () => (await plain.metrics()).get('hive_collector_inserts_under_way') === 0, 'both are stored');
  expect(await spansStored(payload)).toBe(2 * SPANS);
  await expectBalanced(plain);
});

test('at the end, who waits for the first insert is told to come back', async () => {
  const ending = await start({ SHUTDOWN_TIMEOUT_MS: '1000', ACK_TIMEOUT_MS: '20000' });
  await using _ = ending;
  const payload = small();
  proxy.fail({ kind: 'hold answer' }, 'inserts', 1);
  const first = status(ending, payload);
  await delay(1_200);
  const second = status(ending, payload);
  await until(async () => (await ending.metrics()).get('hive_collector_requests_in_hand') === 2, 'both wait');
  ending.signal('SIGTERM');
  expect(await Promise.all([first, second])).toEqual([503, 503]);
  expect(await ending.exited).toMatchObject({ code: 0 });
});
