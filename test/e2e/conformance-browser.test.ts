import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EXPORT, grpcClient } from '../support/clients/grpc-client.ts';
import { type Answer, type Headers, JSON_TYPE, send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf, hiveGatewayBatch } from '../support/generators/payloads.ts';
import { startCollector } from '../support/servers/collector.ts';
import { startWorld, expectRefused, expectAccepted, type World } from '../support/servers/conformance.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { CREDENTIALS } from '../support/servers/hive-verdicts.ts';

/* Pages that send traces from a browser (CORS), from the origins that the operator allows and from others. */

const PREFLIGHT = {
  'access-control-request-method': 'POST',
  'access-control-request-headers': 'authorization,content-type,x-hive-target-ref',
};

let world: World;
let nextSeed = 1;
beforeAll(async () => {
  world = await startWorld({ CORS_ALLOWED_ORIGINS: 'https://app.example.com, https://*.example.org', CORS_MAX_AGE_S: '600' });
});
afterAll(() => world[Symbol.asyncDispose]());

function corsHeaders({ headers }: Answer): Headers {
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) => (name.startsWith('access-control-') ? [[name, String(value)]] : [])),
  );
}

function preflight(origin: string, url = world.collector.url, headers: Headers = PREFLIGHT): Promise<Answer> {
  return send(`${url}/v1/traces`, '', { method: 'OPTIONS', headers: { ...headers, origin } });
}

describe.each([
  ['https://app.example.com', true],
  ['https://shop.example.org', true],
  ['https://eu.shop.example.org', true],
  ['HTTPS://APP.EXAMPLE.COM', true],
  ['http://app.example.com', false],
  ['https://app.example.com.evil.net', false],
  ['https://app-example.com', false],
  ['https://example.org', false],
  ['null', false],
])('a page of %s', (origin, isAllowed) => {
  test(isAllowed ? 'may ask first, without a token' : 'is told nothing that a browser takes for leave', async () => {
    const answer = await preflight(origin);

    expect(answer.headers.vary).toMatch(/origin/i);
    if (!isAllowed) return expect(answer.headers).not.toHaveProperty('access-control-allow-origin');
    expect(answer).toMatchObject({ status: 204, body: Buffer.alloc(0) });
    expect(corsHeaders(answer)).toEqual({
      'access-control-allow-origin': origin,
      'access-control-allow-methods': 'POST',
      'access-control-allow-headers': 'Authorization, Content-Type, Content-Encoding, X-Hive-Target-Ref',
      'access-control-expose-headers': 'Retry-After',
      'access-control-max-age': '600',
    });
  });

  test(isAllowed ? 'may send traces, and read the answer' : "can't send any, even with a good token", async () => {
    const payload = hiveGatewayBatch({ spans: 2, seed: nextSeed++ });
    const answer = await world.collector.send(payload.body, { ...CREDENTIALS, ...JSON_TYPE, origin });

    if (isAllowed) expectAccepted(answer, JSON_TYPE);
    else expectRefused(answer, JSON_TYPE, 403, 'CORS_ALLOWED_ORIGINS');
    expect(answer.headers['access-control-allow-origin']).toBe(isAllowed ? origin : undefined);
    expect(await world.spansStored(payload)).toBe(isAllowed ? 2 : 0);
  });

  test.runIf(isAllowed).each([
    [401, 'Invalid token', { authorization: 'Bearer unknown' }],
    [503, 'credentials', { authorization: 'Bearer unlucky' }],
    [415, 'br', { 'content-encoding': 'br' }],
  ])('can read that it is refused with %i', async (status, says, headers) => {
    const { body } = hiveGatewayBatch({ spans: 1, seed: nextSeed++ });
    const answer = await world.collector.send(body, { ...CREDENTIALS, ...JSON_TYPE, origin, ...headers });

    expectRefused(answer, JSON_TYPE, status, says);
    expect(answer.headers['access-control-allow-origin']).toBe(origin);
    expect(answer.headers['access-control-expose-headers']).toBe('Retry-After');
  });
});

describe('a page of the same place as the collector', () => {
  const own = ['http://traces.example.com', 'https://traces.example.com'];
  test('may send: a proxy in front serves both', async () => {
    for (const origin of own) {
      const payload = hiveGatewayBatch({ spans: 2, seed: nextSeed++ });
      expectAccepted(
        await world.collector.send(payload.body, { ...CREDENTIALS, ...JSON_TYPE, origin, host: 'traces.example.com' }),
        JSON_TYPE,
      );
      expect(await world.spansStored(payload)).toBe(2);
    }
    const { body } = hiveGatewayBatch({ spans: 2, seed: nextSeed++ });
    expectRefused(
      await world.collector.send(body, { ...CREDENTIALS, ...JSON_TYPE, origin: own[0], host: 'other.example.com' }),
      JSON_TYPE,
      403,
      'CORS_ALLOWED_ORIGINS',
    );
  });

  test('may not without tokens, under a name that a site may have resolved to the collector', async () => {
    await using open = await startCollector({ clickhouse: world.clickhouse });
    const { port } = new URL(open.url);
    const payload = hiveGatewayBatch({ spans: 2, seed: nextSeed++ });
    // No content type: a browser sends it without asking first.
    const ask = (origin: string, host: string) => open.send(payload.body, { origin, host });
    for (const [origin, host] of [
      ['http://evil.example', `127.0.0.1:${port}`],
      [`http://evil.example:${port}`, `evil.example:${port}`],
      ['null', `127.0.0.1:${port}`],
    ]) {
      expect((await ask(origin, host)).status, origin).toBe(403);
    }
    expect(await world.spansStored(payload)).toBe(0);
    expectAccepted(
      await open.send(payload.body, { ...JSON_TYPE, origin: `http://localhost:${port}`, host: `localhost:${port}` }),
      JSON_TYPE,
    );
  });
});

test('nor may pages send over gRPC', async () => {
  const [grpcPort] = await freePorts(1);
  await using open = await startCollector({
    clickhouse: world.clickhouse,
    env: { GRPC_PORT: String(grpcPort), CORS_ALLOWED_ORIGINS: 'https://app.example.com' },
  });
  const { body, traceIds } = gatewayProtobuf({ spans: 2, seed: nextSeed++ });
  using client = grpcClient(grpcPort);
  const ask = (origin: string) => client.call(EXPORT, body, { 'x-hive-target-ref': 'target-1', origin });
  expect(await ask('http://evil.example')).toMatchObject({
    code: 'PERMISSION_DENIED',
    message: expect.stringContaining('CORS_ALLOWED_ORIGINS'),
  });
  expect(await world.spansStored({ body, traceIds })).toBe(0);
  expect((await ask('https://app.example.com')).code).toBe('OK');
  expect(open.output()).not.toContain('evil');
});

test.each(['//v1/traces', '/v1/traces/', '//v1/traces/'])('a page may send to %s as well, and ask first', async (path) => {
  const origin = 'https://app.example.com';
  const url = `${world.collector.url}${path}`;
  const asked = await send(url, '', { method: 'OPTIONS', headers: { ...PREFLIGHT, origin } });
  expect(asked).toMatchObject({ status: 204, headers: { 'access-control-allow-origin': origin } });
  const payload = hiveGatewayBatch({ spans: 2, seed: nextSeed++ });
  const answer = await send(url, payload.body, { headers: { ...CREDENTIALS, ...JSON_TYPE, origin } });
  expectAccepted(answer, JSON_TYPE);
  expect(answer.headers['access-control-allow-origin']).toBe(origin);
  expect(await world.spansStored(payload)).toBe(2);
});

test('OPTIONS that is no preflight is answered 405', async () => {
  const answer = await preflight('https://app.example.com', world.collector.url, {});
  expectRefused(answer, JSON_TYPE, 405, 'POST');
  expect(answer.headers.allow).toBe('POST');
});

test('requests without an origin are answered as ever', async () => {
  const payload = hiveGatewayBatch({ spans: 2, seed: nextSeed++ });
  const answer = await world.collector.send(payload.body, { ...CREDENTIALS, ...JSON_TYPE });
  expectAccepted(answer, JSON_TYPE);
  expect(answer.headers).not.toHaveProperty('access-control-allow-origin');
});

test('the other ports let no page in', async () => {
  for (const url of [world.collector.adminUrl, world.collector.healthcheckUrl])
    expect(corsHeaders(await preflight('https://app.example.com', url))).toEqual({});
});

test('* stands for every origin, and for every header', async () => {
  await using open = await startCollector({ clickhouse: world.clickhouse, env: { CORS_ALLOWED_ORIGINS: '*', CORS_ALLOWED_HEADERS: '*' } });
  const answer = await preflight('https://anywhere.example', open.url);
  expect(answer.status).toBe(204);
  expect(corsHeaders(answer)).toMatchObject({
    'access-control-allow-origin': '*',
    'access-control-allow-headers': PREFLIGHT['access-control-request-headers'],
  });
});

test('without CORS_ALLOWED_ORIGINS, no page is let in', async () => {
  await using closed = await startCollector({ clickhouse: world.clickhouse });
  const answer = await preflight('https://app.example.com', closed.url);
  expectRefused(answer, JSON_TYPE, 405, 'POST');
  expect(corsHeaders(answer)).toEqual({});
});
