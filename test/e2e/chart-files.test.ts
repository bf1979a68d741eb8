import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector } from '../support/servers/collector.ts';

/* What the Helm chart brings beside manifests, against the running program. The manifests: npm run chart:check. */

const file = (name: string) => fileURLToPath(new URL(`../../charts/hive-otel-collector/files/${name}`, import.meta.url));
const OURS = /\b(?:otelcol|hive_collector|nodejs|process)_[a-z0-9_]+/g;

let clickhouse: TestClickHouse;
let collector: Collector;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  collector = await startCollector({ clickhouse });
  await collector.send(gatewayProtobuf({ spans: 7, seed: 1 }).body);
});
afterAll(async () => {
  await collector[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});

test.each(['dashboard.json', 'rules.yaml'])('every metric that %s names is in /metrics', async (name) => {
  const text = (await send(`${collector.adminUrl}/metrics`, '', { method: 'GET' })).body.toString();
  const types = Array.from(text.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, metric, type]) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((series) => metric + series) : [metric],
  );
  const there = new Set(types.flat());
  const named = new Set(readFileSync(file(name), 'utf8').match(OURS));
  expect(named.size).toBeGreaterThan(10);
  expect([...named].filter((metric) => !there.has(metric))).toEqual([]);
});

test('the load of the check in a real cluster compares what is acknowledged with what is stored', async () => {
  const script = fileURLToPath(new URL('../chart/kind/load.mjs', import.meta.url));
  const env = {
    COLLECTOR_URL: `${collector.url}/v1/traces`,
    CLICKHOUSE_URL: clickhouse.url,
    LOAD_SECONDS: '2',
    SENDERS: '2',
    STORED_WITHIN_SECONDS: '20',
  };
  const { stdout } = await promisify(execFile)(process.execPath, [script], { env });
  expect(stdout).toMatch(/^acknowledged: [1-9]\d* traces at once, 0 after retries; given up: 0; answers: \{"200":\d+\}$/m);
  expect(stdout).toContain('traces: {"lost":0,"twice":0,"duplicatesAfterRetries":0}');

  // Where ClickHouse hides the rows, they are missing.
  const elsewhere = {
    ...env,
    LOAD_SECONDS: '1',
    STORED_WITHIN_SECONDS: '1',
    CLICKHOUSE_URL: `${clickhouse.url}/?additional_table_filters=${encodeURIComponent("{'otel_traces': '0'}")}`,
  };
  await expect(promisify(execFile)(process.execPath, [script], { env: elsewhere })).rejects.toMatchObject({
    code: 1,
    stdout: expect.stringMatching(/"lost":[1-9]/) as string,
  });
});

test('`helm test` sends a trace, and reads it back', async () => {
  const env = {
    COLLECTOR_URL: `${collector.url}/v1/traces`,
    TARGET_REF: 'target-1',
    CLICKHOUSE_URL: clickhouse.url,
    CLICKHOUSE_DATABASE: 'default',
    CLICKHOUSE_TABLE: 'otel_traces',
  };
  const script = readFileSync(file('send-a-trace.mjs'), 'utf8');
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], { env });
  expect(stdout).toContain('The trace is stored once.');

  const nowhere = { ...env, COLLECTOR_URL: `${collector.url}/elsewhere` };
  await expect(promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], { env: nowhere })).rejects.toMatchObject({
    code: 1,
  });
});
