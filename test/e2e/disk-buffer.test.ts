import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { expectStoredAsAnswered, sendOne, type Sent, SPANS_PER_TRACE } from '../support/clients/load.ts';
import { PROTOBUF_TYPE } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse } from '../support/servers/clickhouse.ts';
import { runProgram, startCollector, until } from '../support/servers/collector.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'disk-buffer-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const diskBuffer = (megabytes: number) => ({
  ENABLE_DISK_BUFFER: 'true',
  DISK_BUFFER_DIR: dir,
  DISK_BUFFER_MAX_SIZE_MB: String(megabytes),
});

test('acknowledges while ClickHouse is away, is ready, and stores each span once when it comes, over a kill between', async () => {
  await using clickhouse = await startClickHouse();
  const env = { ...diskBuffer(16), CLICKHOUSE_URL: clickhouse.url };
  await clickhouse.kill();
  const first = await startCollector({ env });
  expect(await first.ready()).toBe(200);
  const sent: Sent[] = [];
  for (let i = 0; i < 20; i++) sent.push(await sendOne(first.url));
  expect(sent.map(({ outcome }) => outcome)).toEqual(sent.map(() => 200));
  await first.kill();

  await using second = await startCollector({ env });
  sent.push(await sendOne(second.url));
  await clickhouse.restart();
  await until(async () => (await second.metrics()).get('hive_collector_disk_buffer_used_bytes') === 0, 'the disk buffer is empty');
  await expectStoredAsAnswered(clickhouse, sent);
});

test('full: answers 503 with Retry-After, is not ready, and drains after a restart without a new request', async () => {
  await using clickhouse = await startClickHouse();
  const env = { ...diskBuffer(1), CLICKHOUSE_URL: clickhouse.url };
  await clickhouse.kill();
  const first = await startCollector({ env });
  const sent: Sent[] = [];
  do sent.push(await sendOne(first.url, undefined, 20));
  while (sent.at(-1)?.outcome === 200 && sent.length < 2_000);
  expect(sent.at(-1)).toMatchObject({ outcome: 503, retryAfter: '2' });
  expect(await first.ready()).toBe(503);
  await first.kill();

  await using second = await startCollector({ env });
  expect(await second.ready()).toBe(503);
  await clickhouse.restart();
  await until(async () => (await second.ready()) === 200, 'there is room again');
  await until(async () => (await second.metrics()).get('hive_collector_disk_buffer_used_bytes') === 0, 'the disk buffer is empty');
  sent.push(await sendOne(second.url));
  await until(async () => (await second.metrics()).get('hive_collector_disk_buffer_used_bytes') === 0, 'the disk buffer is empty');
  await expectStoredAsAnswered(clickhouse, sent);
});

test('a request larger than the disk buffer is answered 413, one larger than what is free 503; nothing of it is stored', async () => {
  await using clickhouse = await startClickHouse();
  await using collector = await startCollector({ clickhouse, env: diskBuffer(1) });
  const { body } = gatewayProtobuf({ spans: 60_000, seed: 1 });
  const refused = await collector.send(body, PROTOBUF_TYPE);
  expect(refused.status).toBe(413);
  const sent = [await sendOne(collector.url)];
  await until(async () => (await collector.metrics()).get('hive_collector_disk_buffer_used_bytes') === 0, 'the disk buffer is empty');
  await expectStoredAsAnswered(clickhouse, sent);
  const [{ rows }] = await clickhouse.query<{ rows: string }>('SELECT count() AS rows FROM otel_traces');
  expect(rows).toBe('7');
});

test('a second collector on the same directory is told so, and the first is unharmed', async () => {
  await using clickhouse = await startClickHouse();
  await using first = await startCollector({ clickhouse, env: diskBuffer(1) });
  await expect(startCollector({ clickhouse, env: diskBuffer(1) })).rejects.toThrow(/is in use by another collector/);
  expect((await sendOne(first.url)).outcome).toBe(200);
});

test('the last line of a shutdown without ClickHouse counts the spans in the disk buffer; resized, it holds all of them', async () => {
  await using clickhouse = await startClickHouse();
  const env = { ...diskBuffer(16), CLICKHOUSE_URL: clickhouse.url, SHUTDOWN_TIMEOUT_MS: '1000', BATCH_TIMEOUT_MS: '0' };
  const first = await startCollector({ env });
  await first.send(gatewayProtobuf({ spans: 7, seed: 1 }).body);
  await until(async () => (await first.metrics()).get('hive_collector_disk_buffer_used_bytes') === 0, 'the disk buffer is empty');
  await clickhouse.kill();
  const sent: Sent[] = [];
  for (let i = 0; i < 20; i++) sent.push(await sendOne(first.url));
  const spans = (await first.metrics()).get('hive_collector_buffered_spans');
  const { code, output } = await first.stop();
  expect(code).toBe(0);
  const last = JSON.parse(output.split('\n').findLast((line) => line.includes('Shutdown timeout'))!) as object;
  expect(last).toMatchObject({ requestsInHand: 0, spansInDiskBuffer: spans, spansRefused: 0, spansLost: 0 });
  expect(spans).toBe(sent.length * SPANS_PER_TRACE);

  const larger = { ...env, DISK_BUFFER_MAX_SIZE_MB: '32' };
  const second = await startCollector({ env: larger });
  // Its ports may be open before all that it wrote has come through the pipe.
  const line =
    '"sizeMb":16,"DISK_BUFFER_MAX_SIZE_MB":32,' +
    '"msg":"The disk buffer has another size than DISK_BUFFER_MAX_SIZE_MB, and keeps it. To resize it: npm run ring -- resize"';
  await until(() => second.output().includes(line), 'it says that the size is another');
  await second.kill();
  const ring = fileURLToPath(new URL('../../dist/cli/ring.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [ring, 'resize', dir, '--size-mb', '32']);
  expect(stdout).toContain(`with ${spans} spans in it`);

  await using third = await startCollector({ env: larger });
  expect(third.output()).not.toContain('has another size');
  await clickhouse.restart();
  await until(async () => (await third.metrics()).get('hive_collector_disk_buffer_used_bytes') === 0, 'the disk buffer is empty');
  await expectStoredAsAnswered(clickhouse, sent);
});

test('what is in memory alone at the end of a shutdown is lost after ACK_MODE=received, and refused otherwise', async () => {
  const env = { SHUTDOWN_TIMEOUT_MS: '1000', ACK_MODE: 'received' };
  await using clickhouse = await startClickHouse();
  const acknowledged = await startCollector({ clickhouse, env });
  await clickhouse.kill();
  expect(await sendOne(acknowledged.url)).toMatchObject({ outcome: 200 });
  const { output } = await acknowledged.stop();
  expect(output).toContain(`"spansInDiskBuffer":0,"spansRefused":0,"spansLost":${SPANS_PER_TRACE}`);

  await clickhouse.restart();
  const waiting = await startCollector({ clickhouse, env: { ...env, ACK_MODE: 'durable' } });
  clickhouse.pause();
  const answer = sendOne(waiting.url);
  await until(async () => (await waiting.metrics()).get('hive_collector_requests_in_hand') === 1, 'the request is there');
  const stopped = await waiting.stop();
  clickhouse.resume();
  expect(await answer).toMatchObject({ outcome: 503 });
  expect(stopped.output).toContain(`"requestsInHand":1,"spansInDiskBuffer":0,"spansRefused":${SPANS_PER_TRACE},"spansLost":0`);
});

test("a directory that can't be created, as under /proc, stops the start", async () => {
  const { code, output } = await runProgram([], {
    ...diskBuffer(1),
    DISK_BUFFER_DIR: '/proc/collector/disk-buffer',
    CLICKHOUSE_URL: 'http://127.0.0.1:1',
    DISABLE_AUTH: 'true',
  });
  expect(code).toBe(1);
  expect(output).toContain("/proc/collector/disk-buffer can't be created (ENOENT). Set DISK_BUFFER_DIR");
});
