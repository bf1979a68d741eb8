import { Agent } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Hive } from '../integration/auth-hive.ts';
import {
  type Answer,
  type Headers,
  JSON_TYPE,
  PROTOBUF_TYPE,
  type RequestBody,
  type RequestOptions,
  send,
  statusOf,
  successOf,
} from '../support/clients/otlp-client.ts';
import { connectRaw } from '../support/clients/raw-socket.ts';
import { gatewayProtobuf, hiveGatewayBatch, type Payload } from '../support/generators/payloads.ts';
import { expectedRows } from '../support/oracle/expected-rows.ts';
import { encodeRequest, type OtlpRequest } from '../support/oracle/otlp-request.ts';
import { parsedJson } from '../support/oracle/parsed-json.ts';
import { inOrder, storedRows } from '../support/oracle/stored-rows.ts';
import { startApp, type TestApp } from '../support/servers/app.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { parseMetrics, until } from '../support/servers/collector.ts';
import { CREDENTIALS, startHiveWithVerdicts } from '../support/servers/hive-verdicts.ts';

/*
 * The HTTP contract, as a sender sees it: the whole app in this process, a real ClickHouse behind it, and an auth
 * endpoint over real HTTP.
 */

const MAX_REQUEST_MB = 1;
// Time enough to look at a request before it is over, also on a busy machine.
const REQUEST_TIMEOUT_MS = 1_000;
const MANY = 1_000_000;

const ENCODINGS = [
  { name: 'Protobuf', type: PROTOBUF_TYPE, make: gatewayProtobuf, malformed: '\u0005' },
  { name: 'JSON', type: JSON_TYPE, make: hiveGatewayBatch, malformed: '{"resourceSpans": [{]}' },
] as const;

let clickhouse: TestClickHouse;
let hive: Hive;
let collector: TestApp;
let nextSeed = 1;

beforeAll(async () => {
  [clickhouse, hive] = await Promise.all([startClickHouse({ systemLogs: false }), startHiveWithVerdicts()]);
  collector = await startApp({
    CLICKHOUSE_URL: clickhouse.url,
    CLICKHOUSE_CREATE_SCHEMA: 'true',
    HIVE_OTEL_AUTH_ENDPOINT: hive.url,
    MAX_REQUEST_MB: String(MAX_REQUEST_MB),
    REQUEST_TIMEOUT_MS: String(REQUEST_TIMEOUT_MS),
  });
  await until(async () => (await send(`${collector.urls.admin}/ready`, '', { method: 'GET' })).status === 200, 'the app is ready');
});

afterAll(async () => {
  await collector[Symbol.asyncDispose]();
  await Promise.all([hive[Symbol.asyncDispose](), clickhouse[Symbol.asyncDispose]()]);
});

function post(body: RequestBody, headers: Headers = {}, options: RequestOptions = {}): Promise<Answer> {
  return send(`${collector.urls.otlp}/v1/traces`, body, { ...options, headers: { ...CREDENTIALS, ...headers } });
}

async function spansStored({ traceIds }: Payload): Promise<number> {
  return (await storedRows(clickhouse, traceIds)).length;
}

describe.each(ENCODINGS)('a request in $name', ({ name, type, make, malformed }) => {
  let payload: Payload;
  beforeEach(() => {
    payload = make({ spans: 11, seed: nextSeed++ });
  });

  test('is answered 200 when every column of its spans is in ClickHouse', async () => {
    const answer = await post(payload.body, type);
    const rows = await storedRows(clickhouse, payload.traceIds);

    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject(type);
    expect(successOf(answer)).toEqual({});
    const canonical = name === 'JSON' ? encodeRequest(parsedJson(payload.body.toString())) : payload.body;
    expect(rows).toEqual(inOrder(expectedRows(canonical, 'target-1', 'hive')));
  });

  test.each([
    ['gzip', gzipSync],
    ['deflate', deflateSync],
    ['zstd', zstdCompressSync],
    ['GZip', gzipSync],
    ['identity', (body: Buffer) => body],
  ] as const)('may be compressed: %s', async (encoding, compress) => {
    const answer = await post(compress(payload.body), { ...type, 'content-encoding': encoding });

    expect(answer.status).toBe(200);
    expect(await spansStored(payload)).toBe(11);
  });

  test('may come in chunks of any size, without a length', async () => {
    const pieces: Buffer[] = [];
    for (let at = 0; at < payload.body.length; at += 97) pieces.push(payload.body.subarray(at, at + 97));
    const answer = await post(pieces, type);

    expect(answer.status).toBe(200);
    expect(await spansStored(payload)).toBe(11);
  });

  test('may hold no spans', async () => {
    const bodies = name === 'JSON' ? ['{}', '{"resourceSpans":[]}', '{"resourceSpans":[{}]}'] : ['', '\n\u0000'];
    for (const body of bodies) {
      const answer = await post(body, type);
      expect(answer.status, JSON.stringify(body)).toBe(200);
      expect(successOf(answer)).toEqual({});
    }
  });

  test('is stored without the spans whose ids have a wrong length, and the sender is told how many', async () => {
    const { body, traceIds } = requestWithIds([16, 8], [3, 8], [16, 8], [16, 9]);
    const answer = await post(name === 'JSON' ? asJson(body) : encodeRequest(body), type);

    expect(answer.status).toBe(200);
    expect(successOf(answer)).toEqual({ partialSuccess: { rejectedSpans: '2', errorMessage: expect.stringContaining('id') } });
    expect((await storedRows(clickhouse, traceIds)).map(({ TraceId }) => TraceId)).toEqual([traceIds[0], traceIds[2]].toSorted());
  });

  const tooLong = Buffer.alloc(MAX_REQUEST_MB * 1024 ** 2 + 1, ' ');
  test.each<{ title: string; body?: RequestBody; headers?: Headers; status: number; code: number; says: string }>([
    { title: 'malformed', body: malformed, status: 400, code: 3, says: 'malformed' },
    { title: 'cut off', body: make({ spans: 1, seed: 0 }).body.subarray(0, -1), status: 400, code: 3, says: 'malformed' },
    { title: 'not the gzip it is said to be', headers: { 'content-encoding': 'gzip' }, status: 400, code: 3, says: 'gzip' },
    {
      title: 'a gzip cut off',
      body: gzipSync(make({ spans: 1, seed: 0 }).body).subarray(0, -9),
      headers: { 'content-encoding': 'gzip' },
      status: 400,
      code: 3,
      says: 'gzip',
    },
    {
      title: 'a zstd cut off',
      body: zstdCompressSync(make({ spans: 1, seed: 0 }).body).subarray(0, -9),
      headers: { 'content-encoding': 'zstd' },
      status: 400,
      code: 3,
      says: 'zstd',
    },
    { title: 'without a target', headers: { 'x-hive-target-ref': '' }, status: 400, code: 3, says: 'X-Hive-Target-Ref' },
    { title: 'without a token', headers: { authorization: '' }, status: 401, code: 16, says: 'Authorization' },
    {
      title: 'with a token Hive does not know',
      headers: { authorization: 'Bearer unknown' },
      status: 401,
      code: 16,
      says: 'Invalid token provided',
    },
    {
      title: 'with a token that may not write traces',
      headers: { authorization: 'Bearer read-only' },
      status: 403,
      code: 7,
      says: 'No permission to report traces',
    },
    {
      title: 'for a target Hive does not know',
      headers: { authorization: 'Bearer misplaced' },
      status: 404,
      code: 5,
      says: 'Target not found',
    },
    { title: 'too large', body: tooLong, status: 413, code: 8, says: 'MAX_REQUEST_MB' },
    {
      title: 'too large, in chunks',
      body: [tooLong.subarray(0, MANY / 2), tooLong.subarray(MANY / 2)],
      status: 413,
      code: 8,
      says: 'MAX_REQUEST_MB',
    },
    {
      title: 'too large when inflated',
      body: gzipSync(tooLong),
      headers: { 'content-encoding': 'gzip' },
      status: 413,
      code: 8,
      says: 'MAX_REQUEST_MB',
    },
    { title: 'in an unknown compression', headers: { 'content-encoding': 'br' }, status: 415, code: 3, says: 'br' },
  ])('that is $title is answered $status', async ({ body = payload.body, headers, status, code, says }) => {
    const answer = await post(body, { ...type, ...headers });

    expect(answer.status).toBe(status);
    expect(answer.headers).toMatchObject(type);
    expect(answer.headers).not.toHaveProperty('retry-after');
    expect(statusOf(answer)).toEqual({ code, message: expect.stringContaining(says) });
    expect(await spansStored(payload)).toBe(0);
  });

  test('of which no span has valid ids is answered 400', async () => {
    const { body } = requestWithIds([3, 8], [16, 9]);
    const answer = await post(name === 'JSON' ? asJson(body) : encodeRequest(body), type);

    expect(answer.status).toBe(400);
    expect(statusOf(answer)).toEqual({ code: 3, message: expect.stringContaining('ids') });
  });

  test("is answered 503 and when to come back while Hive can't be asked about its token", async () => {
    const answer = await post(payload.body, { ...type, authorization: 'Bearer unlucky' });

    expect(answer.status).toBe(503);
    expect(answer.headers['retry-after']).toBe('2');
    expect(answer.headers).toMatchObject(type);
    expect(statusOf(answer)).toEqual({ code: 14, message: expect.stringContaining('credentials') });
    expect(await spansStored(payload)).toBe(0);
  });

  test('whose body stays away is answered 408', async () => {
    using socket = await connectRaw(collector.urls.otlp);
    socket.write(head({ ...CREDENTIALS, ...type, 'content-length': '1000' }));
    socket.write('half');
    expect(await socket.nextAnswer()).toMatch(/^HTTP\/1\.1 408 /);
  });

  test('that has come whole leaves its connection good for the next one, whatever its answer', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    try {
      const statuses: number[] = [];
      const ask = async (body: RequestBody, headers: Headers = {}) => {
        const answer = await post(body, { ...type, ...headers }, { agent });
        expect(answer.reusedSocket).toBe(statuses.length > 0);
        statuses.push(answer.status);
      };
      await ask(malformed);
      await ask(payload.body, { authorization: 'Bearer unknown' });
      await ask(payload.body, { 'content-encoding': 'br' });
      await ask(payload.body, { authorization: 'Bearer unlucky' });
      await ask(payload.body);
      expect(statuses).toEqual([400, 401, 415, 503, 200]);
      expect(await spansStored(payload)).toBe(11);
    } finally {
      agent.destroy();
    }
  });
});

describe('the content type', () => {
  test.each([
    ['application/json', hiveGatewayBatch],
    ['Application/JSON', hiveGatewayBatch],
    ['application/json; charset=utf-8', hiveGatewayBatch],
    ['APPLICATION/JSON;CHARSET=UTF-8', hiveGatewayBatch],
    ['application/x-protobuf', gatewayProtobuf],
    ['Application/X-Protobuf', gatewayProtobuf],
    ['application/x-protobuf; version=1', gatewayProtobuf],
  ])('%j is understood', async (contentType, make) => {
    const payload = make({ spans: 3, seed: nextSeed++ });
    const answer = await post(payload.body, { 'content-type': contentType });

    expect(answer.status).toBe(200);
    expect(contentType.toLowerCase()).toContain(answer.headers['content-type']);
    expect(await spansStored(payload)).toBe(3);
  });

  test('is Protobuf when none is said', async () => {
    const payload = gatewayProtobuf({ spans: 3, seed: nextSeed++ });
    const answer = await post(payload.body);

    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject(PROTOBUF_TYPE);
    expect(await spansStored(payload)).toBe(3);
    expect((await post([payload.body])).status, 'in chunks').toBe(200);
  });

  test.each(['text/plain', 'application/grpc', 'application/jsonp', 'nonsense'])('%j is answered 415', async (contentType) => {
    const answer = await post('{}', { 'content-type': contentType });

    expect(answer.status).toBe(415);
    expect(answer.headers).toMatchObject(JSON_TYPE);
    expect(statusOf(answer)).toEqual({ code: 3, message: expect.stringContaining('application/x-protobuf, application/json') });
  });
});

describe('other methods and paths', () => {
  test.each(['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])(
    '%s /v1/traces is answered 405, and which method is allowed',
    async (method) => {
      const answer = await post('', {}, { method });

      expect(answer.status).toBe(405);
      expect(answer.headers.allow).toBe('POST');
      if (method !== 'HEAD') expect(statusOf(answer)).toEqual({ code: 12, message: expect.stringContaining('POST') });
    },
  );

  test.each(['/', '/v1/metrics', '/v1/logs', '/v1/traces/1', '/v1'])(
    'POST %s is answered 404, in the encoding of the request',
    async (path) => {
      for (const type of [JSON_TYPE, PROTOBUF_TYPE]) {
        const answer = await send(`${collector.urls.otlp}${path}`, '{}', { headers: { ...CREDENTIALS, ...type } });
        expect(answer.status).toBe(404);
        expect(answer.headers).toMatchObject(type);
        expect(statusOf(answer)).toEqual({ code: 5, message: expect.stringContaining('POST /v1/traces') });
      }
    },
  );

  test.each([
    ['otlp', '/v1/traces', 'POST'],
    ['admin', '/health', 'GET'],
    ['admin', '/ready', 'GET'],
    ['admin', '/metrics', 'GET'],
  ] as const)('only the port %s answers %s', async (owner, path, method) => {
    const payload = gatewayProtobuf({ spans: 1, seed: nextSeed++ });
    for (const port of ['otlp', 'admin', 'healthcheck'] as const) {
      const { status } = await send(`${collector.urls[port]}${path}`, method === 'POST' ? payload.body : '', {
        method,
        headers: CREDENTIALS,
      });
      expect(status, port).toBe(port === owner ? 200 : 404);
    }
  });

  test('/ is the liveness of one port, the status page of another, and nothing on that of traces', async () => {
    const answers = await Promise.all(
      (['healthcheck', 'admin', 'otlp'] as const).map((port) => send(`${collector.urls[port]}/`, '', { method: 'GET' })),
    );
    expect(answers.map(({ status, headers }) => [status, headers['content-type']?.split(';')[0]])).toEqual([
      [200, 'application/json'],
      [200, 'text/html'],
      [404, 'application/json'],
    ]);
  });
});

describe('before a byte of the body is read', () => {
  const LENGTHS = { 'with a length': { 'content-length': String(MANY) }, 'in chunks': { 'transfer-encoding': 'chunked' } };
  const CASES = {
    'a missing token': [401, { authorization: '' }],
    'a token Hive does not know': [401, { authorization: 'Bearer unknown' }],
    "a token Hive can't be asked about": [503, { authorization: 'Bearer unlucky' }],
    'an unknown content type': [415, { 'content-type': 'text/plain' }],
    'an unknown compression': [415, { 'content-encoding': 'br' }],
    'another path': [404, {}, '/v1/logs'],
  } as const;

  describe.each(Object.entries(LENGTHS))('that comes %s', (_, length) => {
    test.each(Object.entries(CASES))('%s is answered', async (_title, [status, headers, path]) => {
      using socket = await connectRaw(collector.urls.otlp);
      socket.write(head({ ...CREDENTIALS, ...PROTOBUF_TYPE, ...length, ...headers }, path));
      expect(await socket.nextAnswer()).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    });
  });

  test('a length over the limit is answered 413', async () => {
    using socket = await connectRaw(collector.urls.otlp);
    socket.write(head({ ...CREDENTIALS, ...PROTOBUF_TYPE, 'content-length': String(MAX_REQUEST_MB * 1024 ** 2 + 1) }));
    expect(await socket.nextAnswer()).toMatch(/^HTTP\/1\.1 413 /);
  });

  test('a sender that waits for it is told to go on', async () => {
    const { body } = gatewayProtobuf({ spans: 1, seed: nextSeed++ });
    using socket = await connectRaw(collector.urls.otlp);
    socket.write(head({ ...CREDENTIALS, ...PROTOBUF_TYPE, 'content-length': String(body.length), expect: '100-continue' }));
    expect(await socket.nextAnswer()).toMatch(/^HTTP\/1\.1 100 /);
    socket.write(body.toString('latin1'));
    expect(await socket.nextAnswer()).toMatch(/^HTTP\/1\.1 200 /);
  });
});

test('a sender that leaves while its token is looked up, or in the middle of its body, is forgotten', async () => {
  for (const [authorization, wait] of [
    ['Bearer slow', 'until Hive is asked'],
    ['Bearer good', 'until the request is in hand'],
  ] as const) {
    const socket = await connectRaw(collector.urls.otlp);
    const askedBefore = hive.asked.length;
    socket.write(head({ ...CREDENTIALS, ...PROTOBUF_TYPE, authorization, 'content-length': '1000' }));
    socket.write('half');
    await until(async () => (authorization === 'Bearer slow' ? hive.asked.length > askedBefore : (await requestsInHand()) === 1), wait);
    socket[Symbol.dispose]();
  }
  // Longer than Hive takes, and less than a body may.
  await delay(REQUEST_TIMEOUT_MS - 50);
  expect(await requestsInHand()).toBe(0);
});

test('the spans of a sender that has left when its token is known are not stored: it sends them again', async () => {
  const { body, traceIds } = requestWithIds([16, 8]);
  const bytes = encodeRequest(body);
  for (const stays of [false, true]) {
    const socket = await connectRaw(collector.urls.otlp);
    const askedBefore = hive.asked.length;
    const targetRef = `a/b/stays-${stays}`;
    socket.write(
      head({
        ...CREDENTIALS,
        ...PROTOBUF_TYPE,
        'authorization': 'Bearer slow',
        'x-hive-target-ref': targetRef,
        'content-length': String(bytes.length),
      }),
    );
    socket.write(bytes);
    await until(() => hive.asked.length > askedBefore, 'Hive is asked');
    if (stays) expect(await socket.nextAnswer()).toMatch(/^HTTP\/1\.1 200 /);
    socket[Symbol.dispose]();
    await delay(REQUEST_TIMEOUT_MS);
    expect(await storedRows(clickhouse, traceIds)).toHaveLength(stays ? 1 : 0);
  }
});

async function requestsInHand(): Promise<number | undefined> {
  const { body } = await send(`${collector.urls.admin}/metrics`, '', { method: 'GET' });
  return parseMetrics(body.toString()).get('hive_collector_requests_in_hand');
}

function head(headers: Headers, path = '/v1/traces'): string {
  const lines = Object.entries({ host: 'collector', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `POST ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

/** One request with a span for each pair of lengths of trace id and span id. */
function requestWithIds(...lengths: [traceId: number, spanId: number][]): { body: OtlpRequest; traceIds: string[] } {
  const random = Math.floor(Math.random() * 2 ** 32);
  const spans = lengths.map(([traceIdBytes, spanIdBytes], index) => {
    const traceId = Buffer.alloc(traceIdBytes, index + 1);
    if (traceIdBytes >= 4) traceId.writeUInt32BE(random, 0);
    return {
      traceId,
      spanId: Buffer.alloc(spanIdBytes, 7),
      startTimeUnixNano: BigInt(Date.now()) * 1_000_000n,
      attributes: [],
      events: [],
      links: [],
    };
  });
  return { body: { resourceSpans: [{ scopeSpans: [{ spans }] }] }, traceIds: spans.map(({ traceId }) => traceId.toString('hex')) };
}

/** As OTLP/JSON writes it: ids in hex, 64-bit numbers as text. */
function asJson(request: OtlpRequest): string {
  return JSON.stringify(request, function (this: Record<string, unknown>, key, value: unknown) {
    const original = this[key];
    if (Buffer.isBuffer(original)) return original.toString('hex');
    return typeof original === 'bigint' ? String(original) : value;
  });
}
