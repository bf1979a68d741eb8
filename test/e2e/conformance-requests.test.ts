import { readFileSync } from 'node:fs';
import { constants, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Answer, type Headers, JSON_TYPE, PROTOBUF_TYPE, type RequestBody, send, statusOf } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf, hiveGatewayBatch } from '../support/generators/payloads.ts';
import { ENCODINGS, expectRefused, expectAccepted, startWorld, type World } from '../support/servers/conformance.ts';
import { CREDENTIALS } from '../support/servers/hive-verdicts.ts';

/* What a request may be like, and what it is answered: encodings, compressions, sizes, tokens, methods, paths. */

const MAX_REQUEST_MB = 16;
const MB = 1024 ** 2;
const SPANS = 11;

interface Case {
  readonly title: string;
  readonly headers?: Headers;
  /** What is sent instead of the payload; pieces go chunked. */
  readonly body?: (payload: Buffer) => RequestBody;
  readonly path?: string;
}
interface Refused extends Case {
  readonly status: number;
  readonly says: string;
}

const encoded = (encoding: string) => ({ 'content-encoding': encoding });
const halves = (body: Buffer) => [body.subarray(0, body.length / 2), body.subarray(body.length / 2)];
const bytes = (body: Buffer) => Array.from(body, (_, at) => body.subarray(at, at + 1));
const followed = (body: Buffer, by: string) => Buffer.concat([body, Buffer.from(by, 'latin1')]);
const tooLong = Buffer.alloc(MAX_REQUEST_MB * MB + 1, ' ');
/** Of 10 MB, which inflate to 10 GB. */
const zeros = gzipSync(Buffer.alloc(64 * MB));
const gzipBomb = Buffer.concat(Array.from({ length: 160 }, () => zeros));

const TAKEN: readonly Case[] = [
  { title: 'plain, with a length' },
  { title: 'plain, in chunks', body: halves },
  { title: 'byte by byte', body: bytes },
  { title: 'identity', headers: encoded('identity') },
  { title: 'an empty Content-Encoding', headers: encoded('') },
  { title: 'gzip', headers: encoded('gzip'), body: (body) => gzipSync(body) },
  { title: 'gzip in chunks', headers: encoded('gzip'), body: (body) => halves(gzipSync(body)) },
  { title: 'gzip byte by byte', headers: encoded('gzip'), body: (body) => bytes(gzipSync(body)) },
  { title: 'gzip that compresses nothing', headers: encoded('gzip'), body: (body) => gzipSync(body, { level: 0 }) },
  { title: 'gzip in two members', headers: encoded('gzip'), body: (body) => Buffer.concat(halves(body).map((half) => gzipSync(half))) },
  { title: 'x-gzip', headers: encoded('x-gzip'), body: (body) => gzipSync(body) },
  { title: 'gzip in capitals, with spaces', headers: encoded(' GZIP '), body: (body) => gzipSync(body) },
  { title: 'deflate with its zlib header', headers: encoded('deflate'), body: (body) => deflateSync(body) },
  { title: 'deflate with the smallest window', headers: encoded('deflate'), body: (body) => deflateSync(body, { windowBits: 9 }) },
  { title: 'deflate without a header', headers: encoded('deflate'), body: (body) => deflateRawSync(body) },
  { title: 'deflate without a header, stored', headers: encoded('deflate'), body: (body) => deflateRawSync(body, { level: 0 }) },
  { title: 'deflate without a header, byte by byte', headers: encoded('Deflate'), body: (body) => bytes(deflateRawSync(body)) },
  { title: 'zstd', headers: encoded('zstd'), body: (body) => zstdCompressSync(body) },
  { title: 'zstd in two frames, in chunks', headers: encoded('zstd'), body: (body) => halves(body).map((half) => zstdCompressSync(half)) },
  {
    title: 'zstd with a window of 32 MB',
    headers: encoded('zstd'),
    body: (body) => zstdCompressSync(body, { params: { [constants.ZSTD_c_windowLog]: 25, [constants.ZSTD_c_contentSizeFlag]: 0 } }),
  },
  { title: 'a query that means nothing here', path: '/v1/traces?source=gateway&x=%zz' },
  { title: 'to //v1/traces', path: '//v1/traces' },
  { title: 'to /v1/traces/', path: '/v1/traces/' },
  { title: 'to //v1/traces/', path: '//v1/traces/' },
  { title: 'to more slashes, and with a query', path: '///v1/traces//?source=gateway' },
  { title: 'to //v1/traces/, in chunks', path: '//v1/traces/', body: halves },
  { title: 'to //v1/traces/ past a router', path: '//v1/traces/', headers: { origin: 'https://app.example.com' } },
  {
    title: 'headers that mean nothing here',
    headers: { accept: 'text/html', 'accept-encoding': 'br', te: 'trailers', 'x-forwarded-for': '10.0.0.1', cookie: 'a=b' },
  },
  { title: 'an expectation nobody knows', headers: { expect: 'the-unexpected' } },
  {
    title: 'the wish for another protocol',
    headers: { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': 'AAMAAABkAAQAAP__' },
  },
  { title: 'headers of 15 KB', headers: { 'x-padding': 'x'.repeat(15 * 1024) } },
];

const REFUSED: readonly Refused[] = [
  { title: 'no body where there must be one', headers: encoded('gzip'), body: () => '', status: 400, says: 'gzip' },
  { title: 'cut off', body: (body) => body.subarray(0, -1), status: 400, says: 'malformed' },
  { title: 'followed by something else', body: (body) => followed(body, '\u0007'), status: 400, says: 'malformed' },
  { title: 'not the gzip it says', headers: encoded('gzip'), status: 400, says: 'gzip' },
  { title: 'not the deflate it says', headers: encoded('deflate'), status: 400, says: 'deflate' },
  { title: 'not the zstd it says', headers: encoded('zstd'), status: 400, says: 'zstd' },
  { title: 'compressed, and does not say so', body: (body) => gzipSync(body), status: 400, says: 'malformed' },
  {
    title: 'compressed otherwise than it says',
    headers: encoded('gzip'),
    body: (body) => zstdCompressSync(body),
    status: 400,
    says: 'gzip',
  },
  {
    title: 'gzip cut off in its trailer',
    headers: encoded('gzip'),
    body: (body) => gzipSync(body).subarray(0, -1),
    status: 400,
    says: 'gzip',
  },
  {
    title: 'gzip cut off in the middle',
    headers: encoded('gzip'),
    body: (body) => halves(gzipSync(body)).slice(0, 1),
    status: 400,
    says: 'gzip',
  },
  {
    title: 'gzip with a wrong checksum',
    headers: encoded('gzip'),
    body: (body) => gzipSync(body).fill(0x55, gzipSync(body).length - 8),
    status: 400,
    says: 'gzip',
  },
  {
    title: 'gzip followed by something else',
    headers: encoded('gzip'),
    body: (body) => followed(gzipSync(body), 'and then some'),
    status: 400,
    says: 'gzip',
  },
  {
    title: 'gzip followed by the first byte of another',
    headers: encoded('gzip'),
    body: (body) => followed(gzipSync(body), '\u001f'),
    status: 400,
    says: 'gzip',
  },
  {
    title: 'gzip followed by something else in a chunk of its own',
    headers: encoded('gzip'),
    body: (body) => [gzipSync(body), Buffer.from('and then some')],
    status: 400,
    says: 'gzip',
  },
  {
    title: 'gzip followed by zeros',
    headers: encoded('gzip'),
    body: (body) => followed(gzipSync(body), '\0\0\0\0'),
    status: 400,
    says: 'gzip',
  },
  {
    title: 'deflate cut off',
    headers: encoded('deflate'),
    body: (body) => deflateSync(body).subarray(0, -5),
    status: 400,
    says: 'deflate',
  },
  {
    title: 'raw deflate cut off',
    headers: encoded('deflate'),
    body: (body) => deflateRawSync(body).subarray(0, -5),
    status: 400,
    says: 'deflate',
  },
  {
    title: 'deflate followed by something else',
    headers: encoded('deflate'),
    body: (body) => followed(deflateSync(body), 'and then some'),
    status: 400,
    says: 'deflate',
  },
  { title: 'zstd cut off', headers: encoded('zstd'), body: (body) => zstdCompressSync(body).subarray(0, -3), status: 400, says: 'zstd' },
  {
    title: 'zstd followed by something else',
    headers: encoded('zstd'),
    body: (body) => followed(zstdCompressSync(body), 'and then some'),
    status: 400,
    says: 'zstd',
  },
  { title: 'br', headers: encoded('br'), status: 415, says: 'br' },
  { title: 'gzip twice', headers: encoded('gzip, gzip'), body: (body) => gzipSync(gzipSync(body)), status: 415, says: 'gzip, gzip' },
  {
    title: 'gzip, then zstd',
    headers: encoded('gzip,zstd'),
    body: (body) => zstdCompressSync(gzipSync(body)),
    status: 415,
    says: 'gzip,zstd',
  },
  { title: 'without a target', headers: { 'x-hive-target-ref': '' }, status: 400, says: 'X-Hive-Target-Ref' },
  { title: 'without a token', headers: { authorization: '' }, status: 401, says: 'Authorization' },
  { title: 'with a token Hive does not know', headers: { authorization: 'Bearer unknown' }, status: 401, says: 'Invalid token provided' },
  { title: 'with a token that may not write traces', headers: { authorization: 'Bearer read-only' }, status: 403, says: 'No permission' },
  { title: 'for a target Hive does not know', headers: { authorization: 'Bearer misplaced' }, status: 404, says: 'Target not found' },
  { title: "with a token Hive can't be asked about", headers: { authorization: 'Bearer unlucky' }, status: 503, says: 'credentials' },
  { title: 'too large', body: () => tooLong, status: 413, says: 'MAX_REQUEST_MB' },
  { title: 'too large, in chunks', body: () => halves(tooLong), status: 413, says: 'MAX_REQUEST_MB' },
  {
    title: 'too large when inflated from gzip',
    headers: encoded('gzip'),
    body: () => gzipSync(tooLong),
    status: 413,
    says: 'MAX_REQUEST_MB',
  },
  {
    title: 'too large when inflated from deflate',
    headers: encoded('deflate'),
    body: () => deflateRawSync(tooLong),
    status: 413,
    says: 'MAX_REQUEST_MB',
  },
  {
    title: 'too large when inflated from zstd',
    headers: encoded('zstd'),
    body: () => zstdCompressSync(tooLong),
    status: 413,
    says: 'MAX_REQUEST_MB',
  },
  { title: '10 MB that inflate to 10 GB', headers: encoded('gzip'), body: () => gzipBomb, status: 413, says: 'MAX_REQUEST_MB' },
  { title: "to a URL that can't be decoded", path: '/v1/traces%', status: 400, says: '/v1/traces%' },
  { title: 'for another signal, /v1/metrics', path: '/v1/metrics', status: 404, says: 'accepts only traces, at POST /v1/traces' },
  { title: 'for another signal, /v1/logs', path: '/v1/logs', status: 404, says: 'accepts only traces, at POST /v1/traces' },
  {
    title: 'for another signal, /v1development/profiles',
    path: '/v1development/profiles',
    status: 404,
    says: 'accepts only traces, at POST /v1/traces',
  },
  { title: 'elsewhere, /', path: '/', status: 404, says: 'POST /v1/traces' },
  { title: 'for another signal, //v1/metrics/', path: '//v1/metrics/', status: 404, says: 'accepts only traces, at POST /v1/traces' },
  { title: 'elsewhere, /v1//traces', path: '/v1//traces', status: 404, says: 'POST /v1/traces' },
  { title: 'to //v1/traces/, without a token', path: '//v1/traces/', headers: { authorization: '' }, status: 401, says: 'Authorization' },
  { title: 'to /v1/traces/, cut off', path: '/v1/traces/', body: (body) => body.subarray(0, -1), status: 400, says: 'malformed' },
  { title: 'elsewhere, /v1/traces/v1/traces', path: '/v1/traces/v1/traces', status: 404, says: 'POST /v1/traces' },
  { title: 'elsewhere, /V1/Traces', path: '/V1/Traces', status: 404, says: 'POST /v1/traces' },
  { title: 'to the path of another port', path: '/metrics', status: 404, says: 'POST /v1/traces' },
];

let world: World;
let nextSeed = 1;
beforeAll(async () => {
  world = await startWorld({ CORS_ALLOWED_ORIGINS: 'https://app.example.com', MAX_REQUEST_MB: String(MAX_REQUEST_MB) });
});
afterAll(() => world[Symbol.asyncDispose]());

function post(body: RequestBody, headers: Headers, path = '/v1/traces', method = 'POST'): Promise<Answer> {
  return send(`${world.collector.url}${path}`, body, { method, headers: { ...CREDENTIALS, ...headers } });
}

describe.each(ENCODINGS)('$name', ({ type, make }) => {
  test.each(TAKEN)('is taken: $title', async ({ headers, body, path }) => {
    const payload = make({ spans: SPANS, seed: nextSeed++ });
    const answer = await post(body?.(payload.body) ?? payload.body, { ...type, ...headers }, path);

    expectAccepted(answer, type);
    expect(await world.spansStored(payload)).toBe(SPANS);
  });

  test.each(REFUSED)('is refused with $status: $title', async ({ headers, body, path, status, says }) => {
    const payload = make({ spans: SPANS, seed: nextSeed++ });
    const answer = await post(body?.(payload.body) ?? payload.body, { ...type, ...headers }, path);

    expectRefused(answer, type, status, says);
    expect(await world.spansStored(payload)).toBe(0);
  });

  test.each(['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND'])(
    'is refused with 405, and which method is allowed: %s',
    async (method) => {
      const payload = make({ spans: 1, seed: nextSeed++ });
      const answer = await post(method === 'PUT' || method === 'PATCH' ? payload.body : '', type, '/v1/traces', method);

      expect(answer.headers.allow).toBe('POST');
      if (method === 'HEAD') expect(answer).toMatchObject({ status: 405, body: Buffer.alloc(0) });
      else expectRefused(answer, type, 405, 'POST');
      expect(await world.spansStored(payload)).toBe(0);
    },
  );
});

test.each(['//v1/traces', '/v1/traces/', '//v1/traces/?a=b'])('%s takes no other method either', async (path) => {
  const answer = await send(`${world.collector.url}${path}`, '', { method: 'GET' });
  expect(answer).toMatchObject({ status: 405, headers: { ...JSON_TYPE, allow: 'POST' } });
});

describe('the content type', () => {
  test.each([
    ['application/json', hiveGatewayBatch, JSON_TYPE],
    ['Application/JSON', hiveGatewayBatch, JSON_TYPE],
    ['application/json; charset=utf-8', hiveGatewayBatch, JSON_TYPE],
    ['application/json ;charset="UTF-8"; profile=x', hiveGatewayBatch, JSON_TYPE],
    ['application/x-protobuf', gatewayProtobuf, PROTOBUF_TYPE],
    ['APPLICATION/X-PROTOBUF; messageType="x"', gatewayProtobuf, PROTOBUF_TYPE],
    [undefined, gatewayProtobuf, PROTOBUF_TYPE],
  ] as const)('%j is understood', async (contentType, make, type) => {
    const payload = make({ spans: 3, seed: nextSeed++ });
    const answer = await post(payload.body, contentType === undefined ? {} : { 'content-type': contentType });

    expectAccepted(answer, type);
    expect(await world.spansStored(payload)).toBe(3);
  });

  test.each([
    'text/plain',
    'application/grpc',
    'application/grpc-web+proto',
    'application/jsonp',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'nonsense',
    ';',
    '',
  ])('%j is refused with 415, in JSON', async (contentType) => {
    const payload = hiveGatewayBatch({ spans: 1, seed: nextSeed++ });
    const answer = await post(payload.body, { 'content-type': contentType });

    expectRefused(answer, JSON_TYPE, 415, 'application/x-protobuf, application/json');
    expect(await world.spansStored(payload)).toBe(0);
  });

  test.each([
    ['JSON said to be Protobuf', hiveGatewayBatch, PROTOBUF_TYPE],
    ['Protobuf said to be JSON', gatewayProtobuf, JSON_TYPE],
  ] as const)('must be true: %s is refused with 400', async (_, make, type) => {
    const payload = make({ spans: 1, seed: nextSeed++ });
    expectRefused(await post(payload.body, type), type, 400, 'malformed');
    expect(await world.spansStored(payload)).toBe(0);
  });
});

test.each([
  ['Protobuf', PROTOBUF_TYPE, ['', '\n\0', '\n\u0002\u0012\0']],
  [
    'JSON',
    JSON_TYPE,
    ['{}', ' {} ', '{"resourceSpans":[]}', '{"resourceSpans":[{}]}', '{"resourceSpans":[{"scopeSpans":[{"spans":[]}]}]}'],
  ],
] as const)('a request without spans is taken: %s', async (_, type, bodies) => {
  for (const body of bodies) expectAccepted(await post(body, type), type);
});

test('who looks around with a browser is told in JSON', async () => {
  const answer = await send(`${world.collector.url}/v1/traces`, '', { method: 'GET' });
  expect(answer).toMatchObject({ status: 405, headers: { ...JSON_TYPE, allow: 'POST' } });
  expect(statusOf(answer).message).toContain('Send traces with POST');
});

test('nothing of all this is left behind, and nothing was held that is over the limit', async () => {
  expect(await world.inHand()).toEqual({ requests: 0, bytes: 0 });
  const peakKb = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${world.collector.pid}/status`, 'utf8'))?.[1]);
  expect(peakKb).toBeLessThan(512 * 1024);
});
