import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hangUp, json, raw, startHive, type Hive } from '../integration/auth-hive.ts';
import { EXPORT, grpcClient } from '../support/clients/grpc-client.ts';
import { JSON_TYPE, send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, runProgram, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/* What the built collector writes: one summary at the start, refusals for who wants to see them, and never a secret. */

const GOOD = 'good-8c1f2d';
const UNKNOWN = 'unknown-5e7a90';
const UNLUCKY = 'unlucky-0b33d4';
const LOST = 'lost-77aa12';
const PASSWORD = 'swordfish-61c0';
const SECRETS = [GOOD, UNKNOWN, UNLUCKY, LOST, PASSWORD, `collector:${PASSWORD}`].flatMap((secret) => [
  secret,
  Buffer.from(secret).toString('base64').replace(/=+$/, ''),
]);

const VERDICTS: Readonly<Record<string, Hive['answer']>> = {
  [GOOD]: json(200, { targetId: 'target-1' }),
  [UNKNOWN]: json(401, { message: `There is no token ${UNKNOWN}` }),
  [UNLUCKY]: raw(500, `Could not look up ${UNLUCKY}`),
};

let clickhouse: TestClickHouse;
let hive: Hive;

beforeAll(async () => {
  [clickhouse, hive] = await Promise.all([
    startClickHouse({ systemLogs: false }),
    startHive((request, response) => (VERDICTS[request.headers.authorization?.slice('Bearer '.length) ?? ''] ?? hangUp)(request, response)),
  ]);
});
afterAll(async () => {
  await Promise.all([hive[Symbol.asyncDispose](), clickhouse[Symbol.asyncDispose]()]);
});

/** Every line is JSON. */
function line(collector: Collector, msg: string): Record<string, unknown> | undefined {
  const lines = collector.output().split('\n').slice(0, -1);
  return lines.map((text): Record<string, unknown> => JSON.parse(text)).find((one) => one.msg === msg);
}

test('the start is one line: ports, disk buffer and what was in it, ClickHouse, limits, warnings', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'logs-'));
  try {
    const env = { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir, DISK_BUFFER_MAX_SIZE_MB: '8' };
    await using first = await startCollector({ env });
    await first.send(gatewayProtobuf({ spans: 7, seed: 1 }).body);
    await first.kill();

    await using second = await startCollector({ clickhouse, env: { ...env, LOG_LEVEL: 'warn' } });
    await until(() => line(second, 'The collector has started') !== undefined, 'the summary is written');
    expect(line(second, 'The collector has started')).toMatchObject({
      level: 40,
      host: '127.0.0.1',
      ports: { otlp: Number(new URL(second.url).port), admin: Number(new URL(second.adminUrl).port) },
      auth: 'off',
      dialect: 'hive',
      clickhouse: { servers: [clickhouse.url], database: 'default', table: 'otel_traces' },
      diskBuffer: { dir, capacityBytes: expect.any(Number), waitingSpans: 7, damagedRecords: 0 },
      limits: { requestMb: 64 },
      warnings: [expect.stringContaining('DISABLE_AUTH=true')],
    });
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('with LOG_LEVEL=info a refusal is not written; with debug it is, and whose it was', async () => {
  await using quiet = await startCollector({ clickhouse });
  await using talkative = await startCollector({ clickhouse, env: { LOG_LEVEL: 'debug' } });
  for (const collector of [quiet, talkative])
    expect((await collector.send('{', { ...JSON_TYPE, 'x-request-id': 'request-1' })).status).toBe(400);

  await until(() => line(talkative, 'A request was refused') !== undefined, 'the refusal is written');
  expect(line(talkative, 'A request was refused')).toMatchObject({
    level: 20,
    status: 400,
    reason: expect.stringContaining('malformed'),
    targetId: 'target-1',
    requestId: 'request-1',
  });
  expect(line(quiet, 'A request was refused')).toBeUndefined();
});

test('no token and no password is ever written, nor shown on the admin port, whatever goes wrong', async () => {
  const [grpcPort] = await freePorts(1);
  const env = {
    LOG_LEVEL: 'trace',
    DISABLE_AUTH: 'false',
    HIVE_OTEL_AUTH_ENDPOINT: hive.url,
    GRPC_PORT: String(grpcPort),
    ACK_TIMEOUT_MS: '500',
  };
  await using collector = await startCollector({ clickhouse, env });
  using calls = grpcClient(grpcPort);
  const { body } = gatewayProtobuf({ spans: 7, seed: 2 });
  const statuses: number[] = [];
  for (const token of [GOOD, UNKNOWN, UNLUCKY, LOST]) {
    statuses.push((await collector.send(body, { authorization: `Bearer ${token}` })).status);
    await calls.call(EXPORT, body, { authorization: `Bearer ${token}`, 'x-hive-target-ref': 'a/b/c' });
  }
  expect(statuses).toEqual([200, 401, 503, 503]);
  await collector.send('{', { ...JSON_TYPE, authorization: `Bearer ${GOOD}` });
  await collector.send(body, { authorization: `Bearer ${GOOD}`, 'content-type': 'text/plain' });
  await clickhouse.kill();
  await collector.send(body, { authorization: `Bearer ${GOOD}` });
  await clickhouse.restart();

  const { host } = new URL(clickhouse.url);
  await using unwelcome = await startCollector({
    env: {
      ...env,
      GRPC_PORT: '',
      CLICKHOUSE_URL: `http://collector:${PASSWORD}@${host}`,
      CLICKHOUSE_USERNAME: 'collector',
      CLICKHOUSE_PASSWORD: PASSWORD,
    },
  });
  await until(() => line(unwelcome, 'ClickHouse is not available; retrying') !== undefined, 'ClickHouse has refused the password');
  expect(line(unwelcome, 'ClickHouse is not available; retrying')).toMatchObject({ reason: expect.stringMatching(/authentication/i) });
  expect((await unwelcome.send(body, { authorization: `Bearer ${GOOD}` })).status).toBe(503);

  const wrong = await runProgram([], {
    CLICKHOUSE_URL: `clickhouse://collector:${PASSWORD}@${host}`,
    CLICKHOUSE_PASSWORD: PASSWORD,
    HIVE_OTEL_AUTH_ENDPOINT: `http://hive:${PASSWORD}@${host}`,
    PORT: 'x',
  });
  expect(wrong).toMatchObject({ code: 1, output: expect.stringContaining('3 problems') });

  const said = [wrong.output];
  for (const one of [collector, unwelcome]) {
    for (const path of ['health', 'ready', 'metrics'])
      said.push((await send(`${one.adminUrl}/${path}`, '', { method: 'GET' })).body.toString());
    await delay(100);
    said.push((await one.stop()).output);
  }
  expect(said.join('').length).toBeGreaterThan(10_000);
  expect(SECRETS.filter((secret) => said.some((text) => text.includes(secret)))).toEqual([]);
});
