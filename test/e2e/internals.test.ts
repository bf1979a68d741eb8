import { afterAll, beforeAll, expect, test } from 'vitest';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { storedRows } from '../support/oracle/stored-rows.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { runProgram, startCollector } from '../support/servers/collector.ts';

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startClickHouse();
});

afterAll(async () => {
  await clickhouse[Symbol.asyncDispose]();
});

const LINE = 'Optimizations are not used';

test.each([
  ['all', '"fallbacks":["shared-reads","parser-stop","zstd-reuse","heap-growth","full-collection","malloc-trim","port-steering"]'],
  ['zstd-reuse', '"fallbacks":["zstd-reuse"]'],
])('with NODE_INTERNALS_OFF=%s the start says what is not used, and spans are stored as ever', async (setting, logged) => {
  await using collector = await startCollector({ clickhouse, env: { NODE_INTERNALS_OFF: setting } });
  const lines = collector
    .output()
    .split('\n')
    .filter((line) => line.includes(LINE));
  expect(lines).toEqual([expect.stringContaining(logged)]);
  const { body, traceIds } = gatewayProtobuf({ spans: 7, seed: setting.length });
  expect((await collector.send(body)).status).toBe(200);
  expect(await storedRows(clickhouse, traceIds)).toHaveLength(7);
});

/** Makes koffi unavailable, as on a machine for which it has no binary. */
const NO_KOFFI = `import { registerHooks } from 'node:module';
registerHooks({
  resolve(name, context, next) {
    if (name === 'koffi') throw new Error('not installed');
    return next(name, context);
  },
});`;

test.skipIf(process.platform !== 'linux').each([
  ['1', '"fallbacks":["malloc-trim"]'],
  ['2', '"fallbacks":["malloc-trim","port-steering"]'],
])('without koffi and with INGEST_THREADS=%s, the start names what is missing because of that', async (threads, logged) => {
  const env = {
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(NO_KOFFI)}`,
    NODE_INTERNALS_OFF: '',
    INGEST_THREADS: threads,
  };
  await using collector = await startCollector({ clickhouse, env });
  expect(collector.output()).toContain(logged);
});

test('else it says nothing', async () => {
  await using collector = await startCollector({ clickhouse, env: { NODE_INTERNALS_OFF: '' } });
  expect(collector.output()).not.toContain(LINE);
});

test('an unknown name stops the start', async () => {
  const { code, output } = await runProgram([], { CLICKHOUSE_URL: clickhouse.url, DISABLE_AUTH: 'true', NODE_INTERNALS_OFF: 'zstd' });
  expect(code).toBe(1);
  expect(output).toContain('NODE_INTERNALS_OFF is "zstd". Allowed: all, or comma-separated names (shared-reads,');
});
