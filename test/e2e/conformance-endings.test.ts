import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EXPORT, grpcClient } from '../support/clients/grpc-client.ts';
import { JSON_TYPE, PROTOBUF_TYPE } from '../support/clients/otlp-client.ts';
import { connectRaw, head, type RawSocket } from '../support/clients/raw-socket.ts';
import { gatewayProtobuf, type Payload } from '../support/generators/payloads.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';
import { expectRefused, expectAccepted, startWorld, type World } from '../support/servers/conformance.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { CREDENTIALS } from '../support/servers/hive-verdicts.ts';

/*
 * How connections end, and what is stored of what came behind the last answer (nothing); and refusals that must come first, as
 * no retry helps.
 */

const HEADERS = { ...CREDENTIALS, ...PROTOBUF_TYPE };
/** Read without node:http, and by it. */
const DOORS = ['/v1/traces', '/v1/traces?by=node:http'] as const;

let world: World;
let nextSeed = 1;
beforeAll(async () => {
  world = await startWorld({ MAX_REQUEST_MB: '1' });
  // Whose token is known is let in at once.
  expectAccepted(await world.collector.send(next().body, HEADERS), PROTOBUF_TYPE);
});
afterAll(() => world[Symbol.asyncDispose]());

function next(): Payload {
  return gatewayProtobuf({ spans: 1, seed: nextSeed++ });
}

function request({ body }: Payload, headers: Readonly<Record<string, string>> = {}, path = '/v1/traces'): Buffer {
  return Buffer.concat([Buffer.from(head({ ...HEADERS, 'content-length': String(body.length), ...headers }, path)), body]);
}

/** The answer to a head, and the beginning of a body. */
async function ask(socket: RawSocket, headers: Readonly<Record<string, string>>, path: string) {
  socket.write(head({ ...HEADERS, ...headers }, path));
  socket.write('the beginning');
  return socket.nextWholeAnswer();
}

describe('nothing is stored of a request behind the answer that ends its connection:', () => {
  test.each([
    ['a token that is refused', { authorization: 'Bearer read-only' }, 403],
    ['a token that nobody knows', { authorization: 'Bearer unknown' }, 401],
    ['a page of another site', { origin: 'http://evil.example' }, 403],
  ])('%s, 20 times', async (_, headers, status) => {
    for (const path of DOORS) {
      const good = Array.from({ length: 10 }, next);
      await Promise.all(
        good.map(async (payload) => {
          const refused = request(next(), headers, path);
          using socket = await connectRaw(world.collector.url);
          socket.write(refused.subarray(0, -10));
          // Not after a fixed time: if the lookup of the token is slower, the body is complete, and the connection stays open.
          const answer = await socket.nextAnswer();
          socket.write(Buffer.concat([refused.subarray(-10), request(payload, {}, path)]));
          expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} [^]*^connection: close`, 'im'));
          expect(await socket.closed).not.toContain('HTTP/1.1 ');
        }),
      );
      await until(async () => (await world.inHand()).requests === 0, 'nothing is in hand');
      expect(await Promise.all(good.map((payload) => world.spansStored(payload)))).toEqual(good.map(() => 0));
    }
  });

  test.each([
    ['Connection: close', { connection: 'close' }, 'HTTP/1.1'],
    ['HTTP/1.0', {}, 'HTTP/1.0'],
  ])('the sender asked for it: %s', async (_, headers, version) => {
    for (const path of DOORS) {
      const [first, second] = [next(), next()];
      using socket = await connectRaw(world.collector.url);
      socket.write(
        Buffer.concat([
          Buffer.from(request(first, headers, path).toString('latin1').replace('HTTP/1.1', version), 'latin1'),
          request(second, {}, path),
        ]),
      );
      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expect(await socket.closed).toBe('');
      expect([await world.spansStored(first), await world.spansStored(second)]).toEqual([1, 0]);
    }
  });
});

test('a request that waits behind another is begun when that has its answer, and a CONNECT behind it is answered last', async () => {
  const payloads = [next(), next()];
  using socket = await connectRaw(world.collector.url);
  socket.write(
    Buffer.concat([
      request(payloads[0], { authorization: 'Bearer slow' }),
      request(payloads[1]),
      Buffer.from('CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n'),
    ]),
  );
  for (const _ of payloads) expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
  expectRefused(await socket.nextWholeAnswer(), JSON_TYPE, 405, 'CONNECT');
  expect(await Promise.all(payloads.map((payload) => world.spansStored(payload)))).toEqual([1, 1]);
});

test('of too many requests at once, one whose body has been read gets its answer: its span is stored', async () => {
  const payloads = [next(), ...Array.from({ length: 40 }, next)];
  using socket = await connectRaw(world.collector.url);
  world.clickhouse.pause();
  socket.write(request(payloads[0], {}, DOORS[1]));
  await until(async () => (await world.collector.metrics()).get('hive_collector_inserts_under_way') === 1, 'its insert is under way');
  socket.write(Buffer.concat(payloads.slice(1).map((payload) => request(payload))));
  await delay(100);
  world.clickhouse.resume();
  expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
  expect(await socket.closed).toBe('');
  expect(await Promise.all(payloads.map((payload) => world.spansStored(payload)))).toEqual([1, ...Array(40).fill(0)]);
});

describe('a sender that ends its side behind a whole request', () => {
  test.each(DOORS)('is answered, if its token is known by then: POST %s', async (path) => {
    await using open = await startCollector({ clickhouse: world.clickhouse });
    const payload = next();
    using socket = await connectRaw(open.url);
    socket.write(request(payload, {}, path));
    socket.end();
    const answer = await socket.nextWholeAnswer();
    expectAccepted(answer, PROTOBUF_TYPE);
    expect(await socket.closed).toBe('');
    expect(await world.spansStored(payload)).toBe(1);
  });

  test.each(DOORS)('is told to send again, if its token is still looked up: it may be gone. POST %s', async (path) => {
    const payload = next();
    using socket = await connectRaw(world.collector.url);
    socket.write(request(payload, { 'authorization': 'Bearer slow', 'x-hive-target-ref': `unknown/so/far-${nextSeed}` }, path));
    socket.end();
    expectRefused(await socket.nextWholeAnswer(), PROTOBUF_TYPE, 503, 'retry later');
    expect(await socket.closed).toBe('');
    expect(await world.spansStored(payload)).toBe(0);
  });
});

describe('a Content-Length over MAX_REQUEST_MB is 413', () => {
  const LONG = { 'content-length': String(1024 ** 2 + 1) };
  let collector: Collector;
  beforeAll(async () => {
    const [grpcPort] = await freePorts(1);
    // No ClickHouse is there.
    collector = await startCollector({
      env: { DISABLE_AUTH: 'false', HIVE_OTEL_AUTH_ENDPOINT: world.hive.url, MAX_REQUEST_MB: '1', GRPC_PORT: String(grpcPort) },
    });
  });
  afterAll(() => collector[Symbol.asyncDispose]());

  test.each([
    ['while ClickHouse is away', {}],
    ['compressed, while ClickHouse is away', { 'content-encoding': 'gzip' }],
    ["while its token can't be looked up", { authorization: 'Bearer unlucky' }],
  ])('%s', async (_, headers) => {
    for (const path of DOORS) {
      using short = await connectRaw(collector.url);
      expect((await ask(short, { ...headers, 'content-length': '1000' }, path)).status).toBe(503);
      using socket = await connectRaw(collector.url);
      expectRefused(await ask(socket, { ...headers, ...LONG }, path), PROTOBUF_TYPE, 413, 'MAX_REQUEST_MB');
    }
  });

  test('while ClickHouse is away, over gRPC', async () => {
    using client = grpcClient(collector.grpcPort!);
    const send = (body: Uint8Array) => client.call(EXPORT, body, CREDENTIALS);
    expect((await send(next().body)).code).toBe('UNAVAILABLE');
    expect(await send(Buffer.alloc(1024 ** 2))).toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      message: expect.stringContaining('MAX_REQUEST_MB'),
      retryAfterSeconds: undefined,
    });
    // The connection goes on.
    expect((await send(next().body)).code).toBe('UNAVAILABLE');
  });

  test('while memory is full, and while its target holds more than its share', async () => {
    const [grpcPort] = await freePorts(1);
    await using full = await startCollector({
      env: { MEM_BUFFER_SIZE_MB: '16', MAX_REQUEST_MB: '1', REQUEST_TIMEOUT_MS: '60000', GRPC_PORT: String(grpcPort) },
      clickhouse: world.clickhouse,
    });
    const held: RawSocket[] = [];
    const hold = async (target: string) => {
      const socket = await connectRaw(full.url);
      socket.write(head({ ...PROTOBUF_TYPE, 'x-hive-target-ref': target, 'content-length': '1000000' }));
      socket.write(Buffer.alloc(999_000));
      held.push(socket);
    };
    // All of one target: at 80 % it is refused, and others are not.
    while (held.length < 20) await hold('greedy');
    let before = 0;
    await until(async () => {
      await delay(200);
      const now = (await full.metrics()).get('hive_collector_memory_used_bytes') ?? 0;
      const isStill = now > 8_000_000 && now === before;
      before = now;
      return isStill;
    }, 'it holds what it may');
    const over = async (target: string, statusOfShort: number) => {
      const headers = { 'x-hive-target-ref': target };
      for (const path of DOORS) {
        using short = await connectRaw(full.url);
        expect((await ask(short, { ...headers, 'content-length': '1000000' }, path)).status).toBe(statusOfShort);
        using socket = await connectRaw(full.url);
        expectRefused(await ask(socket, { ...headers, ...LONG }, path), PROTOBUF_TYPE, 413, 'MAX_REQUEST_MB');
      }
      using client = grpcClient(grpcPort);
      expect((await client.call(EXPORT, Buffer.alloc(1024 ** 2), headers)).message).toContain('MAX_REQUEST_MB');
    };
    await over('greedy', 429);
    for (let count = 0; count < 10; count++) await hold(`other-${count}`);
    await until(async () => (await full.ready()) === 503, 'memory is full');
    await over('another', 503);
    for (const socket of held) socket[Symbol.dispose]();
  });
});
