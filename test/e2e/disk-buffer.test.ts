import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { expectStoredAsAnswered, sendOne, type Sent } from '../support/clients/load.ts';
import { PROTOBUF_TYPE } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse } from '../support/servers/clickhouse.ts';
import { startCollector, until } from '../support/servers/collector.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'disk-buffer-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const diskBuffer = (megabytes: number) => ({ ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir, DISK_BUFFER_MAX_SIZE_MB: String(megabytes) });

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
