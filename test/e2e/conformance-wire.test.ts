import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectRefused, expectAccepted, startWorld, type World } from '../support/servers/conformance.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';
import { CREDENTIALS } from '../support/servers/hive-verdicts.ts';
import { JSON_TYPE, PROTOBUF_TYPE } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf, type Payload } from '../support/generators/payloads.ts';
import { connectRaw, head, type RawSocket } from '../support/clients/raw-socket.ts';
import { writeFirst } from '../support/clients/write-first.ts';

/* What comes over the wire, byte by byte: HTTP as senders stretch it, as attackers bend it, and as it breaks off. */

const HEADERS = { ...CREDENTIALS, ...PROTOBUF_TYPE };
const SPANS = 3;
const MB = 1024 ** 2;

let world: World;
/** One whose timeouts are so short that a busy machine may be late for them: for senders that are late on purpose. */
let impatient: Collector;
let socket: RawSocket;
let payload: Payload;
let nextSeed = 1;
beforeAll(async () => {
  const env = { MAX_REQUEST_MB: '1', AUTH_CACHE_TTL_MS: '0' };
  world = await startWorld(env);
  const timeouts = { REQUEST_TIMEOUT_MS: '500', HEADERS_TIMEOUT_MS: '500', KEEP_ALIVE_TIMEOUT_MS: '500' };
  const auth = { DISABLE_AUTH: 'false', HIVE_OTEL_AUTH_ENDPOINT: world.hive.url };
  impatient = await startCollector({ clickhouse: world.clickhouse, env: { ...auth, ...env, ...timeouts } });
});
afterAll(async () => {
  await impatient[Symbol.asyncDispose]();
  await world[Symbol.asyncDispose]();
});

async function connected(run: () => Promise<void>, { url }: { readonly url: string } = world.collector): Promise<void> {
  using own = await connectRaw(url);
  socket = own;
  payload = gatewayProtobuf({ spans: SPANS, seed: nextSeed++ });
  await run();
}

/** `body` as chunks of a size each. */
function chunked(body: Buffer, size: number, extension = ''): string {
  const chunks: string[] = [];
  for (let at = 0; at < body.length; at += size) {
    const piece = body.toString('latin1', at, at + size);
    chunks.push(`${piece.length.toString(16)}${extension}\r\n${piece}\r\n`);
  }
  return chunks.join('');
}

/** A whole request from its lines and its body. */
function request(lines: readonly string[], body: string): string {
  return `${[...lines, ...Object.entries(HEADERS).map(([name, value]) => `${name}: ${value}`)].join('\r\n')}\r\n\r\n${body}`;
}

const POST = 'POST /v1/traces HTTP/1.1';
const HOST = 'Host: collector';
const CHUNKED = 'Transfer-Encoding: chunked';
const length = (body: Buffer) => `Content-Length: ${body.length}`;
const text = (body: Buffer) => body.toString('latin1');

describe('is taken:', () => {
  test.each<{ title: string; bytes: (body: Buffer) => string }>([
    { title: 'chunks of one byte', bytes: (body) => request([POST, HOST, CHUNKED], `${chunked(body, 1)}0\r\n\r\n`) },
    { title: 'chunks with extensions', bytes: (body) => request([POST, HOST, CHUNKED], `${chunked(body, 100, ';a=b')}0\r\n\r\n`) },
    { title: 'chunks with trailers', bytes: (body) => request([POST, HOST, CHUNKED], `${chunked(body, 100)}0\r\nX-Checksum: 1\r\n\r\n`) },
    {
      title: 'names of headers in capitals',
      bytes: (body) => request([POST, HOST.toUpperCase(), 'TRANSFER-ENCODING: Chunked'], `${chunked(body, 100)}0\r\n\r\n`),
    },
    {
      title: 'the URL in its absolute form',
      bytes: (body) => request(['POST http://collector/v1/traces HTTP/1.1', HOST, length(body)], text(body)),
    },
    { title: 'HTTP/1.0', bytes: (body) => request(['POST /v1/traces HTTP/1.0', length(body)], text(body)) },
    {
      title: 'an expectation over HTTP/1.0, which is none',
      bytes: (body) => request(['POST /v1/traces HTTP/1.0', 'Expect: 100-continue', length(body)], text(body)),
    },
    { title: 'empty lines before the request', bytes: (body) => `\r\n\r\n${request([POST, HOST, length(body)], text(body))}` },
  ])('$title', ({ bytes }) =>
    connected(async () => {
      socket.write(bytes(payload.body));
      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expect(await world.spansStored(payload)).toBe(SPANS);
    }),
  );

  test('one byte at a time', () =>
    connected(async () => {
      for (const byte of request([POST, HOST, length(payload.body)], text(payload.body)).match(/[^]/g) ?? []) socket.write(byte);
      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expect(await world.spansStored(payload)).toBe(SPANS);
    }));

  test('a hundred kilobytes, a kilobyte now and then', () =>
    connected(async () => {
      payload = gatewayProtobuf({ spans: 300, seed: nextSeed++ });
      const bytes = Buffer.from(request([POST, HOST, length(payload.body)], text(payload.body)), 'latin1');
      expect(bytes.length).toBeGreaterThan(100_000);
      for (let at = 0; at < bytes.length; at += 1024) {
        socket.write(bytes.subarray(at, at + 1024));
        await delay(1);
      }
      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expect(await world.spansStored(payload)).toBe(300);
    }));

  test('tens of kilobytes in chunks of one byte', () =>
    connected(async () => {
      payload = gatewayProtobuf({ spans: 100, seed: nextSeed++ });
      expect(payload.body.length).toBeGreaterThan(30_000);
      socket.write(request([POST, HOST, CHUNKED], `${chunked(payload.body, 1)}0\r\n\r\n`));
      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expect(await world.spansStored(payload)).toBe(100);
    }));

  test('requests sent without waiting for answers, which come in their order', () =>
    connected(async () => {
      const others = [gatewayProtobuf({ spans: 1, seed: nextSeed++ }), gatewayProtobuf({ spans: 2, seed: nextSeed++ })];
      // The first takes longest: its token is looked up.
      socket.write(request([POST, HOST, length(payload.body)], text(payload.body)).replace('Bearer good', 'Bearer slow'));
      socket.write(request(['POST /v1/logs HTTP/1.1', HOST, 'Content-Length: 0'], ''));
      for (const { body } of others) socket.write(request([POST, HOST, length(body)], text(body)));

      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expectRefused(await socket.nextWholeAnswer(), PROTOBUF_TYPE, 404, 'POST /v1/traces');
      for (const _ of others) expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expect(await Promise.all([payload, ...others].map((one) => world.spansStored(one)))).toEqual([SPANS, 1, 2]);
    }));
});

describe('is refused, and the connection ends:', () => {
  const smuggled = 'POST /v1/traces HTTP/1.1\r\nHost: collector\r\nContent-Length: 0\r\n\r\n';
  test.each<{ title: string; bytes: (body: Buffer) => string; status?: number; says?: string; type?: Readonly<Record<string, string>> }>([
    {
      title: 'Content-Length and Transfer-Encoding',
      bytes: (body) => request([POST, HOST, length(body), CHUNKED], `0\r\n\r\n${smuggled}`),
    },
    {
      title: 'Transfer-Encoding and Content-Length',
      bytes: (body) => request([POST, HOST, CHUNKED, length(body)], `0\r\n\r\n${smuggled}`),
    },
    { title: 'two lengths', bytes: (body) => request([POST, HOST, length(body), 'Content-Length: 0'], text(body)) },
    { title: 'the same length twice', bytes: (body) => request([POST, HOST, length(body), length(body)], text(body)) },
    { title: 'two lengths in one header', bytes: (body) => request([POST, HOST, 'Content-Length: 5, 5'], text(body)) },
    { title: 'a length below zero', bytes: (body) => request([POST, HOST, 'Content-Length: -1'], text(body)) },
    { title: 'a length with a sign', bytes: (body) => request([POST, HOST, `Content-Length: +${body.length}`], text(body)) },
    { title: 'a length in hex', bytes: (body) => request([POST, HOST, 'Content-Length: 0x10'], text(body)) },
    { title: 'a length past 64 bits', bytes: (body) => request([POST, HOST, `Content-Length: ${2n ** 64n}`], text(body)) },
    {
      title: 'Transfer-Encoding: xchunked',
      bytes: (body) => request([POST, HOST, 'Transfer-Encoding: xchunked'], `${chunked(body, 100)}0\r\n\r\n`),
      type: PROTOBUF_TYPE,
    },
    {
      title: 'Transfer-Encoding: chunked, identity',
      bytes: (body) => request([POST, HOST, 'Transfer-Encoding: chunked, identity'], `${chunked(body, 100)}0\r\n\r\n`),
    },
    { title: 'Transfer-Encoding twice', bytes: (body) => request([POST, HOST, CHUNKED, CHUNKED], `${chunked(body, 100)}0\r\n\r\n`) },
    {
      title: 'Transfer-Encoding : chunked',
      bytes: (body) => request([POST, HOST, 'Transfer-Encoding : chunked'], `${chunked(body, 100)}0\r\n\r\n`),
    },
    { title: 'a header over two lines', bytes: (body) => request([POST, HOST, 'X-Name: a\r\n b', length(body)], text(body)) },
    {
      title: 'Transfer-Encoding over two lines',
      bytes: (body) => request([POST, HOST, 'Transfer-Encoding:\r\n chunked'], `${chunked(body, 100)}0\r\n\r\n`),
    },
    { title: 'a header without a name', bytes: (body) => request([POST, HOST, ': value', length(body)], text(body)) },
    { title: 'a header with a NUL', bytes: (body) => request([POST, HOST, 'X-Name: a\0b', length(body)], text(body)) },
    { title: 'a header that ends in CR', bytes: (body) => request([POST, HOST, 'X-Name: a\rX-Other: b', length(body)], text(body)) },
    { title: 'no Host', bytes: (body) => request([POST, length(body)], text(body)), says: 'Host', type: PROTOBUF_TYPE },
    { title: 'a method nobody knows', bytes: (body) => request(['SEND /v1/traces HTTP/1.1', HOST, length(body)], text(body)) },
    { title: 'a method in small letters', bytes: (body) => request(['post /v1/traces HTTP/1.1', HOST, length(body)], text(body)) },
    { title: 'a space in the URL', bytes: (body) => request(['POST /v1/ traces HTTP/1.1', HOST, length(body)], text(body)) },
    { title: 'HTTP/9.9', bytes: (body) => request(['POST /v1/traces HTTP/9.9', HOST, length(body)], text(body)) },
    { title: 'TLS', bytes: () => '\u0016\u0003\u0001\u0002\0\u0001\0\u0001\u00fc\u0003\u0003' },
    {
      title: 'a chunk size that is no number',
      bytes: (body) => request([POST, HOST, CHUNKED], `xyz\r\n${text(body)}\r\n0\r\n\r\n`),
      type: PROTOBUF_TYPE,
    },
    {
      title: 'a chunk size past 64 bits',
      bytes: (body) => request([POST, HOST, CHUNKED], `${'f'.repeat(17)}\r\n${text(body)}\r\n0\r\n\r\n`),
      type: PROTOBUF_TYPE,
    },
    {
      title: 'a chunk longer than it says',
      bytes: (body) => request([POST, HOST, CHUNKED], `${chunked(body, 100)}3\r\nabcdef\r\n0\r\n\r\n`),
      type: PROTOBUF_TYPE,
    },
    {
      title: 'a chunk that ends in LF',
      bytes: (body) => request([POST, HOST, CHUNKED], chunked(body, 100).replaceAll('\r\n', '\n')),
      type: PROTOBUF_TYPE,
    },
    {
      title: 'headers over 16 KB',
      bytes: (body) => request([POST, HOST, `X-Padding: ${'x'.repeat(17 * 1024)}`, length(body)], text(body)),
      status: 431,
      says: '16 KB',
    },
    {
      title: 'a URL over 16 KB',
      bytes: (body) => request([`POST /v1/traces?${'x'.repeat(17 * 1024)} HTTP/1.1`, HOST, length(body)], text(body)),
      status: 431,
      says: '16 KB',
    },
    { title: 'CONNECT', bytes: () => request(['CONNECT collector:443 HTTP/1.1', HOST], ''), status: 405, says: 'CONNECT' },
  ])('$title', ({ bytes, status = 400, says = 'not valid HTTP', type = JSON_TYPE }) =>
    connected(async () => {
      socket.write(bytes(payload.body));
      const answer = await socket.nextWholeAnswer();

      expectRefused(answer, type, status, says);
      expect(answer.headers.connection).toBe('close');
      socket.end();
      // Nothing else, and not a second answer.
      expect(await socket.closed).toBe('');
      expect(await world.spansStored(payload)).toBe(0);
    }),
  );

  test('hundreds of requests sent without waiting for the first answer', () =>
    connected(async () => {
      const one = request([POST, HOST, 'Content-Length: 0'], '').replace('Bearer good', 'Bearer slow');
      socket.write(one.repeat(1_000));
      expect(await socket.closed).toBe('');
      await until(async () => (await world.inHand()).requests === 0, 'they are forgotten');
    }));

  test('a hundred thousand chunks of one byte', () =>
    connected(async () => {
      socket.write(request([POST, HOST, CHUNKED], '1\r\n \r\n'.repeat(100_000)));
      expectRefused(await socket.nextWholeAnswer(), PROTOBUF_TYPE, 400, 'chunks of a few bytes');
      expect(await socket.closed).toBe('');
    }));

  test('a transfer encoding that only the last hop understands', () =>
    connected(async () => {
      socket.write(request([POST, HOST, 'Transfer-Encoding: gzip, chunked'], `${chunked(payload.body, 100)}0\r\n\r\n`));
      expectRefused(await socket.nextWholeAnswer(), PROTOBUF_TYPE, 400, 'gzip, chunked');
      expect(await world.spansStored(payload)).toBe(0);
    }));

  test('garbage behind a whole request, which is answered first', () =>
    connected(async () => {
      socket.write(request([POST, HOST, length(payload.body)], `${text(payload.body)}garbage\r\n\r\n`));
      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expectRefused(await socket.nextWholeAnswer(), JSON_TYPE, 400, 'not valid HTTP');
      expect(await socket.closed).toBe('');
      expect(await world.spansStored(payload)).toBe(SPANS);
    }));

  test('garbage without end behind a whole request, which is answered first', () =>
    connected(async () => {
      socket.write(request([POST, HOST, length(payload.body)], text(payload.body)).replace('Bearer good', 'Bearer slow'));
      const flood = setInterval(() => socket.write('garbage '), 5);
      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expectRefused(await socket.nextWholeAnswer(), JSON_TYPE, 400, 'not valid HTTP');
      await socket.closed;
      clearInterval(flood);
      expect(await world.spansStored(payload)).toBe(SPANS);
    }));

  test('a body that ends before its length', () =>
    connected(async () => {
      socket.write(request([POST, HOST, 'Content-Length: 1000000'], text(payload.body)));
      socket.end();
      expectRefused(await socket.nextWholeAnswer(), PROTOBUF_TYPE, 400, 'it ended before it was complete');
      expect(await socket.closed).toBe('');
      expect(await world.spansStored(payload)).toBe(0);
    }));
});

describe('a sender that asks before it sends (Expect: 100-continue)', () => {
  test('is told to go on when its body is wanted', () =>
    connected(async () => {
      socket.write(head({ ...HEADERS, 'content-length': String(payload.body.length), expect: '100-continue' }));
      expect(await socket.nextAnswer()).toBe('HTTP/1.1 100 Continue');
      socket.write(payload.body);
      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expect(await world.spansStored(payload)).toBe(SPANS);
    }));

  test('may stop waiting, and send the body', () =>
    connected(async () => {
      socket.write(head({ ...HEADERS, authorization: 'Bearer slow', 'transfer-encoding': 'chunked', Expect: '100-Continue' }));
      socket.write(`${chunked(payload.body, 100)}0\r\n\r\n`);
      expect(await socket.nextAnswer()).toBe('HTTP/1.1 100 Continue');
      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expect(await world.spansStored(payload)).toBe(SPANS);
    }));

  test.each<[status: number, says: string, headers: Readonly<Record<string, string>>, path?: string]>([
    [401, 'Authorization', { authorization: '' }],
    [401, 'Invalid token', { authorization: 'Bearer unknown' }],
    [400, 'X-Hive-Target-Ref', { 'x-hive-target-ref': '' }],
    [503, 'credentials', { authorization: 'Bearer unlucky' }],
    [415, 'br', { 'content-encoding': 'br' }],
    [413, 'MAX_REQUEST_MB', { 'content-length': String(MB + 1) }],
    [404, 'POST /v1/traces', {}, '/v1/metrics'],
  ])('is answered %i (%s), and not told to go on', (status, says, headers, path) =>
    connected(async () => {
      socket.write(head({ ...HEADERS, 'content-length': '1000', expect: '100-continue', ...headers }, path));
      const answer = await socket.nextWholeAnswer();
      expectRefused(answer, PROTOBUF_TYPE, status, says);
      expect(answer.headers.connection).toBe('close');
      expect(await socket.closed).toBe('');
    }),
  );
});

describe('a body that is not wanted', () => {
  const CASES = [
    [401, 'Authorization', { authorization: '' }],
    [404, 'Target not found', { authorization: 'Bearer misplaced' }],
    [415, 'br', { 'content-encoding': 'br' }],
  ] as const;

  test.each(CASES)('is answered %i before it comes, and may still come: its sender gets to read that', (status, says, headers) =>
    connected(async () => {
      socket.write(head({ ...HEADERS, 'content-length': String(4 * MB), ...headers }));
      const answer = socket.nextWholeAnswer();
      for (let sent = 0; sent < 4; sent++) socket.write(Buffer.alloc(MB));
      expectRefused(await answer, PROTOBUF_TYPE, status, says);
      expect((await answer).headers.connection).toBe('close');
      expect(await socket.closed).toBe('');
    }, impatient),
  );

  test.each([
    ['in chunks', { 'transfer-encoding': 'chunked' }, Buffer.from(`${MB.toString(16)}\r\n${' '.repeat(MB)}\r\n`), '0\r\n\r\n'],
    ['with a length', { 'content-length': String(9 * MB) }, Buffer.alloc(MB), ''],
  ] as const)(
    '%s, may take longer than the collector waits for a silent sender: all who write before they read get the answer',
    async (_, headers, piece, last) => {
      const COUNT = 10;
      const pieces = [...Array.from({ length: 9 }, () => piece), last];
      const refused = head({ ...HEADERS, ...headers, authorization: 'Bearer unknown' });
      const outcomes = await Promise.all(Array.from({ length: COUNT }, () => writeFirst(impatient.url, refused, pieces, 300)));
      expect(outcomes).toEqual(Array.from({ length: COUNT }, () => '401'));
    },
  );

  test('and is longer than what is read of it breaks its sender off in a way that lets it read the answer (EPIPE)', async () => {
    const refused = head({ ...HEADERS, 'content-length': String(64 * MB), authorization: 'Bearer unknown' });
    expect(
      await writeFirst(
        impatient.url,
        refused,
        Array.from({ length: 64 }, () => Buffer.alloc(MB)),
      ),
    ).toBe('EPIPE');
  });

  test.each([
    ['in chunks', { 'transfer-encoding': 'chunked' }, `${MB.toString(16)}\r\n${' '.repeat(MB)}\r\n`],
    ['with a length', { 'content-length': String(1e15) }, ' '.repeat(MB)],
  ] as const)('and never ends, %s, loses its connection soon', (_, headers, piece) =>
    connected(async () => {
      const closed = socket.closed.then(() => true);
      socket.write(head({ ...HEADERS, ...headers, authorization: 'Bearer unknown' }));
      expectRefused(await socket.nextWholeAnswer(), PROTOBUF_TYPE, 401, 'Invalid token');
      let isClosed = false;
      void closed.then(() => (isClosed = true));
      await until(() => {
        if (!isClosed) socket.write(piece);
        return isClosed;
      }, 'the connection is closed');
    }, impatient),
  );
});

describe('too slow', () => {
  test('headers that do not end are answered 408', () =>
    connected(async () => {
      socket.write('POST /v1/traces HTTP/1.1\r\nX-Slow: ');
      expectRefused(await socket.nextWholeAnswer(), JSON_TYPE, 408, 'HEADERS_TIMEOUT_MS');
      expect(await socket.closed).toBe('');
    }, impatient));

  test('headers that come a byte now and then are answered 408', () =>
    connected(async () => {
      const drip = setInterval(() => socket.write('x'), 50);
      socket.write('POST /v1/traces HTTP/1.1\r\nX-Slow: ');
      expectRefused(await socket.nextWholeAnswer(), JSON_TYPE, 408, 'HEADERS_TIMEOUT_MS');
      clearInterval(drip);
      expect(await socket.closed).toBe('');
    }, impatient));

  test('a connection that stays silent is closed', () => connected(async () => void (await socket.closed), impatient));

  test('a connection that has had its answer, and stays silent, is closed', () =>
    connected(async () => {
      socket.write(request([POST, HOST, length(payload.body)], text(payload.body)));
      expectAccepted(await socket.nextWholeAnswer(), PROTOBUF_TYPE);
      expect(await socket.closed).toBe('');
    }, impatient));

  test.each([
    ['with a length', { 'content-length': '100000' }],
    ['in chunks', { 'transfer-encoding': 'chunked' }],
  ])('a body that comes a byte now and then, %s, is answered 408', (_, framing) =>
    connected(async () => {
      socket.write(head({ ...HEADERS, ...framing }));
      const drip = setInterval(() => socket.write('content-length' in framing ? 'x' : '1\r\nx\r\n'), 50);
      expectRefused(await socket.nextWholeAnswer(), PROTOBUF_TYPE, 408, 'REQUEST_TIMEOUT_MS');
      clearInterval(drip);
      expect(await socket.closed).toBe('');
    }, impatient),
  );
});

describe('a sender that goes away leaves nothing behind:', () => {
  test.each([
    ['before its headers are complete', POST, undefined],
    ['while its token is looked up', head({ ...HEADERS, authorization: 'Bearer slow', 'content-length': '1000' }), undefined],
    ['in the middle of its body', `${head({ ...HEADERS, 'content-length': '900000' })}${'x'.repeat(800_000)}`, 1],
    ['in the middle of a chunk', `${head({ ...HEADERS, 'transfer-encoding': 'chunked' })}fffff\r\n${'x'.repeat(800_000)}`, 1],
    ['when it is told to go on', head({ ...HEADERS, 'content-length': '1000', expect: '100-continue' }), 1],
  ])('%s', (_, bytes, inHand) =>
    connected(async () => {
      socket.write(bytes);
      if (inHand !== undefined) await until(async () => (await world.inHand()).requests === inHand, 'the request is in hand');
      socket[Symbol.dispose]();
      await until(async () => {
        const { requests, bytes: held } = await world.inHand();
        return requests === 0 && held === 0;
      }, 'it is forgotten');
    }),
  );

  test('after its request, which is stored as if it had stayed', () =>
    connected(async () => {
      world.clickhouse.pause();
      socket.write(request([POST, HOST, length(payload.body)], text(payload.body)));
      await until(async () => (await world.collector.metrics()).get('hive_collector_inserts_under_way') === 1, 'its insert is under way');
      socket[Symbol.dispose]();
      world.clickhouse.resume();
      await until(async () => (await world.inHand()).requests === 0, 'the request is over');
      expect(await world.spansStored(payload)).toBe(SPANS);
      expect(await world.inHand()).toEqual({ requests: 0, bytes: 0 });
    }));
});

test('others are unaffected: connections are closed, the log has no errors, refusals are counted, and spans are accepted', async () => {
  const refusals = await refusalsAtRest(world.collector);
  for (const status of [400, 431]) expect(refusals(status)).toBeGreaterThan(0);
  expect((await refusalsAtRest(impatient))(408)).toBeGreaterThan(0);
  payload = gatewayProtobuf({ spans: SPANS, seed: nextSeed++ });
  expectAccepted(await world.collector.send(payload.body, HEADERS), PROTOBUF_TYPE);
});

/** How many requests a collector has refused with a status, once all connections are closed and nothing is left of them. */
async function refusalsAtRest(collector: Collector): Promise<(status: number) => number | undefined> {
  await until(async () => (await collector.metrics()).get('hive_collector_connections') === 0, 'every connection is closed');
  const metrics = await collector.metrics();
  expect(metrics.get('hive_collector_requests_in_hand')).toBe(0);
  expect(metrics.get('hive_collector_memory_used_bytes')).toBe(0);
  expect(collector.output()).not.toMatch(/"level":(50|60)|Warning/);
  return (status) => metrics.get(`hive_collector_refused_requests_total{status="${status}"}`);
}
