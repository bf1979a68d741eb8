import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectStoredAsAnswered, outcomes, startLoad } from '../support/clients/load.ts';
import { PROTOBUF_TYPE, send } from '../support/clients/otlp-client.ts';
import { connectRaw, head, type RawSocket } from '../support/clients/raw-socket.ts';
import { gatewayProtobuf, type Payload } from '../support/generators/payloads.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';
import { expectRefused, expectAccepted, startWorld, type World } from '../support/servers/conformance.ts';
import { CREDENTIALS } from '../support/servers/hive-verdicts.ts';
import { processMemoryMb } from '../support/servers/process-memory.ts';

/* Connections: how many, how long, what they cost, and how they end when the collector does. */

const HEADERS = { ...CREDENTIALS, ...PROTOBUF_TYPE };

let world: World;
let nextSeed = 1;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

async function connectMany(url: string, count: number): Promise<RawSocket[]> {
  const sockets: RawSocket[] = [];
  while (sockets.length < count)
    sockets.push(...(await Promise.all(Array.from({ length: Math.min(200, count - sockets.length) }, () => connectRaw(url)))));
  return sockets;
}

describe('more connections than MAX_CONNECTIONS', () => {
  test('are closed as they come, while the others and the health ports are served; when one goes, there is room', async () => {
    await using collector = await startCollector({ clickhouse: world.clickhouse, env: { MAX_CONNECTIONS: '5' } });
    // The connection that found the collector listening may not be gone yet.
    await until(async () => (await collector.metrics()).get('hive_collector_connections') === 0, 'nobody is connected');
    const sockets = await connectMany(collector.url, 5);
    await until(async () => (await collector.metrics()).get('hive_collector_connections') === 5, 'all are connected');

    using oneTooMany = await connectRaw(collector.url);
    expect(await oneTooMany.closed).toBe('');
    expect((await collector.metrics()).get('hive_collector_dropped_connections_total')).toBe(1);
    await until(() => collector.output().includes('New connections are closed: MAX_CONNECTIONS are open'), 'the log says so');
    expect(await collector.ready()).toBe(200);
    expect((await send(collector.healthcheckUrl, '', { method: 'GET' })).status).toBe(200);

    const { body } = gatewayProtobuf({ spans: 1, seed: nextSeed++ });
    sockets[0].write(head({ ...HEADERS, 'content-length': String(body.length) }));
    sockets[0].write(body);
    expectAccepted(await sockets[0].nextWholeAnswer(), PROTOBUF_TYPE);

    sockets[1][Symbol.dispose]();
    await until(async () => (await collector.metrics()).get('hive_collector_connections') === 4, 'one is gone');
    expectAccepted(await collector.send(body, { ...HEADERS, connection: 'close' }), PROTOBUF_TYPE);
    for (const socket of sockets) socket[Symbol.dispose]();
  });
});

test('four thousand connections that do nothing cost little memory, and nobody else anything', async () => {
  const COUNT = 4_000;
  const residentKb = () => 1024 * processMemoryMb(world.collector.pid, 'VmRSS');
  const before = residentKb();
  const sockets = await connectMany(world.collector.url, COUNT);
  await until(async () => ((await world.collector.metrics()).get('hive_collector_connections') ?? 0) >= COUNT, 'all are connected');
  const each = (residentKb() - before) / COUNT;
  const { body } = gatewayProtobuf({ spans: 1, seed: nextSeed++ });
  expectAccepted(await world.collector.send(body, HEADERS), PROTOBUF_TYPE);
  for (const socket of sockets) socket[Symbol.dispose]();

  expect(each).toBeLessThan(50);
  await until(async () => ((await world.collector.metrics()).get('hive_collector_connections') ?? 0) < 5, 'all are gone');
});

test('a thousand requests may go over one connection', async () => {
  using socket = await connectRaw(world.collector.url);
  for (let sent = 0; sent < 1_000; sent++) {
    socket.write(head({ ...HEADERS, 'content-length': '0' }));
    const answer = await socket.nextWholeAnswer();
    expect(answer).toMatchObject({ status: 200, headers: { connection: 'keep-alive', 'keep-alive': 'timeout=75' } });
  }
});

describe('at MAX_CONNECTION_AGE_MS', () => {
  const AGE_MS = 400;
  const { body } = gatewayProtobuf({ spans: 1, seed: nextSeed++ });
  const plain = { ...HEADERS, 'content-length': String(body.length) };
  /** A browser's goes through the routers. */
  const DOORS = [
    ['whole', plain, '/v1/traces'],
    ['past node:http', plain, '/v1/traces?a=b'],
    ['past the routers', { ...plain, origin: 'https://app.example.com' }, '/v1/traces'],
    ['refused', { ...plain, authorization: 'Bearer unknown' }, '/v1/traces'],
    ['refused by the routers', { ...plain, origin: 'https://app.example.com', authorization: 'Bearer unknown' }, '/v1/traces'],
  ] as const;

  let collector: Collector;
  beforeAll(async () => {
    collector = await startCollector({
      clickhouse: world.clickhouse,
      env: {
        DISABLE_AUTH: 'false',
        HIVE_OTEL_AUTH_ENDPOINT: world.hive.url,
        MAX_CONNECTION_AGE_MS: String(AGE_MS),
        CORS_ALLOWED_ORIGINS: 'https://app.example.com',
      },
    });
  });
  afterAll(() => collector[Symbol.asyncDispose]());

  test.each(DOORS)('a connection is asked to end with its next answer: %s', async (_, headers, path) => {
    using socket = await connectRaw(collector.url);
    const ask = async () => {
      // At once: a sender that is refused before its body has come loses the connection at any age.
      socket.write(Buffer.concat([Buffer.from(head(headers, path)), body]));
      return (await socket.nextWholeAnswer()).headers.connection;
    };
    const connectedAtMs = performance.now();
    // Those that say keep-alive were sent before the age, and a tenth of it, had passed.
    for (;;) {
      const connection = await ask();
      if (connection === 'close') break;
      expect(connection).toBe('keep-alive');
      expect(performance.now() - connectedAtMs).toBeLessThan(AGE_MS * 10);
    }
    expect(performance.now() - connectedAtMs).toBeGreaterThan(AGE_MS * 0.9);
    expect(await socket.closed).toBe('');
  });

  test('no request that is handled loses its answer, however many are sent at once: the last answer of them says close', async () => {
    for (let round = 0; round < 8; round++) {
      const payloads = Array.from({ length: 5 }, () => gatewayProtobuf({ spans: 1, seed: nextSeed++ }));
      using socket = await connectRaw(collector.url);
      // Its first requests may come before that age, or just then.
      await delay(AGE_MS * (0.8 + 0.05 * round));
      const request = ({ body: bytes }: Payload) =>
        Buffer.concat([Buffer.from(head({ ...HEADERS, 'content-length': String(bytes.length) })), bytes]);
      socket.write(Buffer.concat(payloads.map(request)));
      const connections: (string | undefined)[] = [];
      for (const _ of payloads) {
        const answer = await socket.nextWholeAnswer();
        expectAccepted(answer, PROTOBUF_TYPE);
        connections.push(answer.headers.connection);
      }
      expect(connections.slice(0, -1)).toEqual(['keep-alive', 'keep-alive', 'keep-alive', 'keep-alive']);
      expect(await world.spansStored({ body, traceIds: payloads.flatMap(({ traceIds }) => traceIds) })).toBe(5);
    }
  });

  test('a request that comes behind an answer that says close is not handled', async () => {
    using socket = await connectRaw(collector.url);
    await delay(AGE_MS * 1.2);
    const payloads = [gatewayProtobuf({ spans: 1, seed: nextSeed++ }), gatewayProtobuf({ spans: 1, seed: nextSeed++ })];
    for (const { body: bytes } of payloads) {
      socket.write(head({ ...HEADERS, 'content-length': String(bytes.length) }, '/v1/traces?a=b'));
      socket.write(bytes);
      const answer = await socket.nextWholeAnswer().catch(() => undefined);
      if (bytes === payloads[0].body) expect(answer?.headers.connection).toBe('close');
      else expect(answer).toBeUndefined();
    }
    expect(await world.spansStored(payloads[0])).toBe(1);
    expect(await world.spansStored(payloads[1])).toBe(0);
  });

  test('senders that keep their connections notice nothing', async () => {
    const load = startLoad(collector.url, { senders: 8, headers: CREDENTIALS });
    await delay(AGE_MS * 5);
    const sent = await load.stop();
    expect(Object.keys(outcomes(sent))).toEqual(['200']);
    await expectStoredAsAnswered(world.clickhouse, sent);
  });
});

test('some requests sent at once over one connection are answered one by one', async () => {
  const COUNT = 16;
  const payloads = Array.from({ length: COUNT }, () => gatewayProtobuf({ spans: 1, seed: nextSeed++ }));
  using socket = await connectRaw(world.collector.url);
  for (const { body } of payloads) {
    socket.write(head({ ...HEADERS, 'content-length': String(body.length) }));
    socket.write(body);
  }
  for (const _ of payloads) expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
  expect(await world.spansStored({ body: Buffer.alloc(0), traceIds: payloads.flatMap(({ traceIds }) => traceIds) })).toBe(COUNT);
});

describe('when the collector ends', () => {
  test('at the deadline, a body that still arrives is answered 503; so is a sender whose token is looked up', async () => {
    await using collector = await startCollector({
      clickhouse: world.clickhouse,
      env: { DISABLE_AUTH: 'false', HIVE_OTEL_AUTH_ENDPOINT: world.hive.url, AUTH_TIMEOUT_MS: '60000', SHUTDOWN_TIMEOUT_MS: '1500' },
    });
    const payload = gatewayProtobuf({ spans: 1, seed: nextSeed++ });
    using arriving = await connectRaw(collector.url);
    arriving.write(head({ ...HEADERS, 'content-length': String(payload.body.length) }));
    arriving.write(payload.body.subarray(0, -1));
    await until(async () => (await collector.metrics()).get('hive_collector_requests_in_hand') === 1, 'the request is in hand');
    using waiting = await connectRaw(collector.url);
    const askedBefore = world.hive.asked.length;
    waiting.write(head({ ...HEADERS, authorization: 'Bearer patient', 'content-length': '1000' }));
    await until(() => world.hive.asked.length > askedBefore, 'Hive is asked');

    collector.signal('SIGTERM');
    const sockets = [arriving, waiting];
    const answers = await Promise.all(sockets.map((socket) => socket.nextWholeAnswer()));
    for (const [index, answer] of answers.entries()) {
      expectRefused(answer, PROTOBUF_TYPE, 503, 'shutting down');
      expect(answer.headers.connection).toBe('close');
      expect(await sockets[index].closed).toBe('');
    }
    const { code, signal } = await collector.exited;
    expect({ code, signal }).toEqual({ code: 0, signal: null });
    expect(await world.spansStored(payload)).toBe(0);
  });

  test('idle connections and half requests hold it up no longer', async () => {
    await using collector = await startCollector({ clickhouse: world.clickhouse, env: { SHUTDOWN_TIMEOUT_MS: '20000' } });
    const sockets = await connectMany(collector.url, 20);
    for (const socket of sockets.slice(10)) socket.write('POST /v1/traces HTTP/1.1\r\nX-Slow: ');
    expect((await collector.stop()).tookMs).toBeLessThan(10_000);
    for (const socket of sockets) expect(await socket.closed).toBe('');
  });
});
