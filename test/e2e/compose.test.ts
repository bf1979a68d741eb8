import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EXPORT, grpcClient } from '../support/clients/grpc-client.ts';
import { JSON_TYPE, send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';
import { readComposeFile } from '../support/servers/compose.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { run } from '../support/servers/run.ts';

/* examples/docker-compose without Docker: the same programs with the same variables except addresses, and its README's commands. */

const FOLDER = fileURLToPath(new URL('../../examples/docker-compose/', import.meta.url));
const example = readComposeFile(join(FOLDER, 'docker-compose.yml')).services;
const page = readFileSync(join(FOLDER, 'README.md'), 'utf8');
const { CLICKHOUSE_USER, CLICKHOUSE_PASSWORD } = example.clickhouse.environment;
/** As the entrypoint of ClickHouse's image does it; the test itself is the default user. */
const USERS = `<users>
  <default><password/><networks><ip>127.0.0.1</ip></networks></default>
  <${CLICKHOUSE_USER}><password>${CLICKHOUSE_PASSWORD}</password><networks><ip>127.0.0.1</ip></networks></${CLICKHOUSE_USER}>
</users>`;
const CREDENTIALS = {
  authorization: `Bearer ${example.auth.environment.EXAMPLE_TOKEN}`,
  'x-hive-target-ref': 'my-org/my-project/my-target',
};

const stop: (() => unknown)[] = [];
let clickhouse: TestClickHouse;
let collector: Collector;

beforeAll(async () => {
  const dir = mkdtempSync(join(tmpdir(), 'compose-'));
  stop.push(() => rmSync(dir, { recursive: true }));
  const [authPort, grpcPort] = await freePorts(2);
  clickhouse = await startClickHouse({ systemLogs: false, users: USERS });
  stop.push(() => clickhouse[Symbol.asyncDispose]());
  const [, script] = example.auth.volumes![0].split(':');
  expect(example.auth.command).toEqual([script]);
  const auth = spawn(process.execPath, [join(FOLDER, 'auth-stand-in.mjs')], {
    env: { ...example.auth.environment, PORT: String(authPort) },
  });
  stop.push(() => auth.kill());
  // Its health check, as the container runs it.
  const [, ...check] = example.auth.healthcheck!.test.map((word) => word.replace(`:${example.auth.environment.PORT}/`, `:${authPort}/`));
  await until(async () => (await run(process.execPath, check.slice(1))).status === 0, 'the stand-in is healthy');
  const { HIVE_OTEL_AUTH_ENDPOINT, ...environment } = example.collector.environment;
  collector = await startCollector({
    clickhouse,
    env: {
      ...environment,
      DISABLE_AUTH: '',
      CLICKHOUSE_URL: '',
      CLICKHOUSE_HOST: '127.0.0.1',
      CLICKHOUSE_PORT: new URL(clickhouse.url).port,
      HIVE_OTEL_AUTH_ENDPOINT: HIVE_OTEL_AUTH_ENDPOINT.replace(`auth:${example.auth.environment.PORT}`, `127.0.0.1:${authPort}`),
      GRPC_PORT: String(grpcPort),
      DISK_BUFFER_DIR: dir,
      DISK_BUFFER_MAX_SIZE_MB: '8',
    },
  });
  stop.push(() => collector[Symbol.asyncDispose]());
  await until(() => clickhouse.hasTable('otel_traces'), 'the table is there');
});
afterAll(async () => {
  for (const end of stop.toReversed()) await end();
});

test('the commands of its README send a trace and read it back', async () => {
  const command = /^NOW=[^]*?(?=^```)/m.exec(page)![0];
  const { stdout } = await run('sh', ['-c', command.replace('http://127.0.0.1:4318', collector.url)]);
  expect(stdout).toMatch(/^HTTP\/1\.1 200 OK/);
  const query = /--query "([^"]*)"/.exec(page)![1].replace(' FORMAT Vertical', '');
  await until(async () => (await clickhouse.query(query)).length === 1, 'the trace is stored');
  expect(await clickhouse.query(query)).toEqual([
    expect.objectContaining({
      ServiceName: 'hello',
      SpanName: 'my first span',
      SpanAttributes: { 'hive.target_id': 'my-org/my-project/my-target' },
    }),
  ]);
});

test('gRPC, and pages of any origin, are let in', async () => {
  using client = grpcClient(collector.grpcPort!);
  expect(await client.call(EXPORT, gatewayProtobuf({ spans: 1, seed: 1 }).body, CREDENTIALS)).toMatchObject({ code: 'OK' });
  const preflight = await send(`${collector.url}/v1/traces`, '', {
    method: 'OPTIONS',
    headers: { origin: 'https://app.example.com', 'access-control-request-method': 'POST' },
  });
  expect(preflight).toMatchObject({ status: 204, headers: { 'access-control-allow-origin': '*' } });
});

test.each([
  ['without a token', { authorization: '' }, 401],
  ['with another token', { authorization: 'Bearer other' }, 401],
  ['without a target', { 'x-hive-target-ref': '' }, 400],
])('a request %s is refused', async (_, headers, status) => {
  const { authorization, ...others } = { ...CREDENTIALS, ...headers };
  const answer = await send(`${collector.url}/v1/traces`, '{}', {
    headers: { ...JSON_TYPE, ...others, ...(authorization !== '' && { authorization }) },
  });
  expect(answer.status).toBe(status);
});
