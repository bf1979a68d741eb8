import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { stored, startRingBatching, SPANS_PER_BLOCK, untilStored } from '../support/generators/ring-batching.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { parseMetrics, runProgram, startCollector, until } from '../support/servers/collector.ts';
import { startPathProxy, type PathProxy } from '../support/servers/path-proxy.ts';
import { run } from '../support/servers/run.ts';

/* How a ClickHouse may be named: by a URL with a path and a query, for a proxy in front, and by its parts. */

const KEY = 'sword fish/&?';
const dir = mkdtempSync(join(tmpdir(), 'clickhouse-url-'));
const PROTOBUF = { 'content-type': 'application/x-protobuf' };
const spans = (seed: number) => gatewayProtobuf({ spans: 10, seed });

let clickhouse: TestClickHouse;
let other: TestClickHouse;
let proxy: PathProxy;

beforeAll(async () => {
  [clickhouse, other] = await Promise.all([startClickHouse({ systemLogs: false }), startClickHouse({ systemLogs: false })]);
  proxy = await startPathProxy({ '/click/house': clickhouse, '/other': other, '/third/': clickhouse }, KEY);
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await Promise.all([clickhouse, other].map((server) => server[Symbol.asyncDispose]()));
  rmSync(dir, { recursive: true });
});
beforeEach(async () => {
  await Promise.all([clickhouse, other].map((server) => server.command('DROP TABLE IF EXISTS otel_traces SYNC')));
});

test('everything goes to the path with the parameters of CLICKHOUSE_URL, and the key in it is shown nowhere', async () => {
  const url = proxy.url('/click/house');
  const before = proxy.requests.length;
  const applied = await runProgram(['apply'], { CLICKHOUSE_URL: `${url}&max_threads=1` }, 'cli/schema');
  expect(applied).toMatchObject({ code: 0, output: expect.stringContaining('created') });
  expect(await runProgram(['check'], { CLICKHOUSE_URL: url }, 'cli/schema')).toMatchObject({ code: 0 });
  expect(proxy.requests.slice(before).some((request) => /[?&]max_threads=1(&|$)/.test(request))).toBe(true);

  await using collector = await startCollector({
    clickhouse: { url },
    env: { LOG_LEVEL: 'trace', ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: join(dir, 'shown'), DISK_BUFFER_MAX_SIZE_MB: '8' },
  });
  expect((await collector.send(spans(1).body, PROTOBUF)).status).toBe(200);
  await untilStored([clickhouse], 10);
  // An error on the way is logged and shown, too.
  proxy.cutAnswersOf('/click/house');
  expect((await collector.send(spans(2).body, PROTOBUF)).status).toBe(200);
  await until(
    async () => (await send(`${collector.adminUrl}/health`, '', { method: 'GET' })).body.toString().includes('down'),
    'it is away',
  );
  const pages = await Promise.all(
    ['/', '/health', '/ready', '/metrics'].map(async (path) =>
      (await send(`${collector.adminUrl}${path}`, '', { method: 'GET' })).body.toString(),
    ),
  );
  proxy.cutAnswersOf(undefined);
  await untilStored([clickhouse], 20);
  const { output } = await collector.stop();
  expect(output).toContain('/click/house');
  expect(readFileSync(join(dir, 'shown', 'servers'), 'utf8')).toBe(`${url.split('?')[0]}\n`);
  for (const text of [applied.output, output, ...pages]) expect(text).not.toMatch(/sword.?(%20|\+)?fish/);
  expect(proxy.refused).toBe(0);
});

test('paths of one origin are servers of their own: an insert that one may have is not sent to another', async () => {
  const ring = join(dir, 'paths');
  const urls = [proxy.url('/click/house'), proxy.url('/other')];
  {
    await using batching = startRingBatching(ring, urls, { CLICKHOUSE_TIMEOUT_MS: '5000' });
    await until(() => batching.storage.availability.all.every(({ availability }) => availability.isUp), 'both are there');
    proxy.cutAnswersOf('/click/house');
    await batching.push(1);
    await untilStored([clickhouse], SPANS_PER_BLOCK);
    await batching.push(1);
    await untilStored([other], SPANS_PER_BLOCK);
  }
  // After a restart, too, and with the order turned round.
  await using batching = startRingBatching(ring, urls.toReversed(), { CLICKHOUSE_TIMEOUT_MS: '5000' });
  await until(() => batching.storage.availability.all[0].availability.isUp, 'the other is there');
  expect((await stored([other])).rows).toBe(SPANS_PER_BLOCK);
  proxy.cutAnswersOf(undefined);
  await batching.drained();
  expect(await stored([clickhouse, other])).toEqual({ rows: 2 * SPANS_PER_BLOCK, spans: 2 * SPANS_PER_BLOCK });
});

test('an exported script takes such a URL, too', async () => {
  const ring = join(dir, 'script');
  expect(await runProgram(['apply'], { CLICKHOUSE_URL: clickhouse.url }, 'cli/schema')).toMatchObject({ code: 0 });
  {
    proxy.cutAnswersOf('/other');
    await using batching = startRingBatching(ring, [proxy.url('/other')]);
    await batching.push(2);
  }
  proxy.cutAnswersOf(undefined);
  const out = join(ring, 'out');
  await run(process.execPath, ['src/cli/ring.ts', 'export', ring, '--format', 'native', '--out', out]);
  for (const path of ['/click/house', '/third/']) {
    expect(await run(join(out, 'replay.sh'), [], { CLICKHOUSE_URL: proxy.url(path), CLICKHOUSE_PASSWORD: '' })).toMatchObject({
      status: 0,
      stderr: '',
    });
    expect(await stored([clickhouse])).toEqual({ rows: 2 * SPANS_PER_BLOCK, spans: 2 * SPANS_PER_BLOCK });
  }
});

test('CLICKHOUSE_PROTOCOL, CLICKHOUSE_HOST and CLICKHOUSE_PORT are as good as a URL', async () => {
  const parts = {
    CLICKHOUSE_URL: '',
    CLICKHOUSE_PROTOCOL: 'http',
    CLICKHOUSE_HOST: '127.0.0.1',
    CLICKHOUSE_PORT: new URL(clickhouse.url).port,
  };
  expect(await runProgram(['apply'], parts, 'cli/schema')).toMatchObject({ code: 0 });
  await using collector = await startCollector({ clickhouse, env: parts });
  expect((await collector.send(spans(3).body, PROTOBUF)).status).toBe(200);
  expect(await stored([clickhouse])).toMatchObject({ rows: 10 });
  expect(
    parseMetrics((await send(`${collector.adminUrl}/metrics`, '', { method: 'GET' })).body.toString()).get(
      'hive_collector_clickhouse_servers_up',
    ),
  ).toBe(1);
  expect((await collector.stop()).output).toContain(clickhouse.url);
  const wrong = await runProgram([], { ...parts, CLICKHOUSE_URL: other.url, DISABLE_AUTH: 'true' });
  expect(wrong).toMatchObject({
    code: 1,
    output: expect.stringContaining('CLICKHOUSE_URL and CLICKHOUSE_PROTOCOL, CLICKHOUSE_HOST, CLICKHOUSE_PORT name different servers'),
  });
});
