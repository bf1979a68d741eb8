import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Hive, json, startHive } from '../integration/auth-hive.ts';
import { EXPORT, type GrpcClient, grpcClient } from '../support/clients/grpc-client.ts';
import { encodeRequest } from '../support/oracle/otlp-request.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/* What senders without a token can do to how the collector asks for tokens: be refused, and nothing that anybody else would notice. */

const REF = 'org/project/target';
const body = encodeRequest({ resourceSpans: [] });

let clickhouse: TestClickHouse;
let hive: Hive;
let collector: Collector;
let client: GrpcClient;

beforeAll(async () => {
  // As Node's own HTTP server is by default, it has no room for headers of over 16 KB: status 431.
  [clickhouse, hive] = await Promise.all([startClickHouse({ systemLogs: false }), startHive(json(401, {}))]);
  const [grpcPort] = await freePorts(1);
  collector = await startCollector({
    clickhouse,
    env: {
      DISABLE_AUTH: 'false',
      HIVE_OTEL_AUTH_ENDPOINT: hive.url,
      GRPC_PORT: String(grpcPort),
      AUTH_TIMEOUT_MS: '500',
      AUTH_CACHE_REFUSED_TTL_MS: '0',
    },
  });
  client = grpcClient(grpcPort);
});
beforeEach(() => {
  hive.answer = json(401, {});
});
afterAll(async () => {
  client[Symbol.dispose]();
  await collector[Symbol.asyncDispose]();
  await Promise.all([hive[Symbol.asyncDispose](), clickhouse[Symbol.asyncDispose]()]);
});

async function failures(): Promise<number | undefined> {
  return (await collector.metrics()).get('hive_collector_auth_lookup_failures_total');
}

test.each([
  ['a token of 15 KB', `Bearer ${'t'.repeat(15_000)}`, REF, 401, 'UNAUTHENTICATED', 'The header Authorization is longer than 4096 bytes.'],
  ['a token of 5 KB', `Bearer ${'t'.repeat(5_000)}`, REF, 401, 'UNAUTHENTICATED', 'The header Authorization is longer than 4096 bytes.'],
  ['a target of 15 KB', 'Bearer t', 't'.repeat(15_000), 400, 'INVALID_ARGUMENT', 'The header X-Hive-Target-Ref is longer than 1024 bytes.'],
  ['a target of 2 KB', 'Bearer t', 't'.repeat(2_000), 400, 'INVALID_ARGUMENT', 'The header X-Hive-Target-Ref is longer than 1024 bytes.'],
])('%s is refused without a question to Hive, over HTTP and gRPC', async (_what, authorization, targetRef, status, code, message) => {
  const asked = hive.asked.length;
  const headers = { authorization, 'x-hive-target-ref': targetRef };
  const whole = await collector.send(body, headers);
  expect({ status: whole.status, body: whole.body.toString() }).toMatchObject({ status, body: expect.stringContaining(message) });
  // With an Expect, by way of node:http.
  expect((await collector.send(body, { ...headers, expect: 'nothing' })).status).toBe(status);
  expect(await client.call(EXPORT, body, headers)).toMatchObject({ code, message });
  expect(hive.asked.length).toBe(asked);
  expect(await failures()).toBe(0);
});

test.each([402, 406, 410, 413, 414, 415, 422, 431, 451])('what Hive answers %i to is refused, and is no outage', async (verdict) => {
  hive.answer = json(verdict, { message: 'Not this one.' });
  const { status, body: text } = await collector.send(body, { 'authorization': `Bearer ${verdict}`, 'x-hive-target-ref': REF });
  expect({ status, text: text.toString() }).toMatchObject({ status: 400, text: expect.stringContaining('Not this one.') });
  expect(await failures()).toBe(0);
});

test.each([100, 102, 103])('a %i before the answer is passed over', async (informational) => {
  await using endpoint = await startRaw(`HTTP/1.1 ${informational} Early\r\n\r\nHTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}`);
  await using other = await startCollector({ clickhouse, env: { DISABLE_AUTH: 'false', HIVE_OTEL_AUTH_ENDPOINT: endpoint.url } });
  expect((await other.send(body, { authorization: 'Bearer t' })).status).toBe(401);
  expect((await other.metrics()).get('hive_collector_auth_lookup_failures_total')).toBe(0);
});

/** An auth endpoint that answers these bytes to everything. */
async function startRaw(answer: string): Promise<AsyncDisposable & { url: string }> {
  const server: Server = createServer((socket) => socket.on('data', () => socket.write(answer)).on('error', () => {}));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, [Symbol.asyncDispose]: async () => void server.close() };
}
