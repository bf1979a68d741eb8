import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectRefused, expectTaken, startWorld, type World } from '../support/conformance.ts';
import { startCollector, until } from '../support/collector.ts';
import { CREDENTIALS } from '../support/hive-verdicts.ts';
import { PROTOBUF_TYPE, send } from '../support/otlp-client.ts';
import { gatewayProtobuf } from '../support/payloads.ts';
import { connectRaw, head, type RawSocket } from '../support/raw-socket.ts';

/* Connections: how many, how long, what they cost, and how they end when the collector does. */

const HEADERS = { ...CREDENTIALS, ...PROTOBUF_TYPE };

let world: World;
let nextSeed = 1;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

/** Resident memory, in KB. */
function residentKb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

async function connectMany(url: string, count: number): Promise<RawSocket[]> {
  const sockets: RawSocket[] = [];
  while (sockets.length < count) sockets.push(...(await Promise.all(Array.from({ length: Math.min(200, count - sockets.length) }, () => connectRaw(url)))));
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
    await until(() => collector.output().includes('New connections are closed: there are MAX_CONNECTIONS already'), 'the log says so');
    expect(await collector.ready()).toBe(200);
    expect((await send(collector.healthcheckUrl, '', { method: 'GET' })).status).toBe(200);

    const { body } = gatewayProtobuf({ spans: 1, seed: nextSeed++ });
    sockets[0].write(head({ ...HEADERS, 'content-length': String(body.length) }));
    sockets[0].write(body);
    expectTaken(await sockets[0].nextWholeAnswer(), PROTOBUF_TYPE);

    sockets[1][Symbol.dispose]();
    await until(async () => (await collector.metrics()).get('hive_collector_connections') === 4, 'one is gone');
    expectTaken(await collector.send(body, { ...HEADERS, connection: 'close' }), PROTOBUF_TYPE);
    for (const socket of sockets) socket[Symbol.dispose]();
  });
});

test('four thousand connections that do nothing cost little memory, and nobody else anything', async () => {
  const COUNT = 4_000;
  const before = residentKb(world.collector.pid);
  const sockets = await connectMany(world.collector.url, COUNT);
  await until(async () => ((await world.collector.metrics()).get('hive_collector_connections') ?? 0) >= COUNT, 'all are connected');
  const each = (residentKb(world.collector.pid) - before) / COUNT;
  const { body } = gatewayProtobuf({ spans: 1, seed: nextSeed++ });
  expectTaken(await world.collector.send(body, HEADERS), PROTOBUF_TYPE);
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

test('some requests sent at once over one connection are answered one by one', async () => {
  const COUNT = 16;
  const payloads = Array.from({ length: COUNT }, () => gatewayProtobuf({ spans: 1, seed: nextSeed++ }));
  using socket = await connectRaw(world.collector.url);
  for (const { body } of payloads) {
    socket.write(head({ ...HEADERS, 'content-length': String(body.length) }));
    socket.write(body);
  }
  for (const _ of payloads) expectTaken(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
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
