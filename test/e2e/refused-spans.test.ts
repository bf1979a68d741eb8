import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { readNativeBlocks } from '../../src/cli/native-reader.ts';
import { DeadLetterFolder } from '../../src/dead-letters/dead-letter-folder.ts';
import { createStatements } from '../../src/storage/table.ts';
import { PROTOBUF_TYPE, statusOf, successOf } from '../support/clients/otlp-client.ts';
import {
  FORBIDDEN,
  ADD_CONSTRAINT,
  NOT_UTF8_ATTRIBUTE,
  markedSpans,
  type MarkedSpans,
  withJsonAttributes,
} from '../support/generators/marked-spans.ts';
import { accountsOf, expectBalance } from '../support/oracle/span-accounts.ts';
import { startProxy } from '../support/servers/clickhouse-proxy.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';

const [, createTable] = createStatements('default', 'otel_traces');

let clickhouse: TestClickHouse;
let dir = '';
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'refused-spans-'));
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  return () => rmSync(dir, { recursive: true });
});

const withDiskBuffer = () => ({ ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir, DISK_BUFFER_MAX_SIZE_MB: '8', BATCH_TIMEOUT_MS: '100' });
const sendAll = (collector: Collector, requests: readonly MarkedSpans[]) =>
  Promise.all(requests.map(({ body }) => collector.send(body, PROTOBUF_TYPE)));
const stored = async () =>
  (await clickhouse.query<{ SpanId: string }>('SELECT SpanId FROM otel_traces')).map(({ SpanId }) => SpanId).toSorted();
const good = (requests: number, spans = 3) =>
  Array.from({ length: requests }, () => markedSpans(Array.from({ length: spans }, () => undefined)));
const idsOf = (...requests: readonly MarkedSpans[]) => requests.flatMap(({ spanIds }) => spanIds).toSorted();

async function idle(collector: Collector): Promise<void> {
  await until(async () => {
    const metrics = await collector.metrics();
    // Acknowledged when received, spans can be in a block that is not queued yet: its requests still hold memory.
    return metrics.get('hive_collector_buffered_spans') === 0 && metrics.get('hive_collector_memory_used_bytes') === 0;
  }, 'all is done');
}

async function deadSpans(): Promise<string[]> {
  const folder = new DeadLetterFolder(join(dir, 'dead-letters'));
  const ids: string[] = [];
  for (const { token } of await folder.list())
    ids.push(
      ...readNativeBlocks(zstdDecompressSync(await folder.block(token))).flatMap(({ columns }) => columns.get('SpanId') as string[]),
    );
  return ids.toSorted();
}

describe.each(['memory mode', 'the disk buffer'])('with %s', (mode) => {
  const env = () => (mode === 'memory mode' ? {} : withDiskBuffer());

  test('text that is not UTF-8 is stored repaired where attributes are JSON, with five good requests of the same moment', async () => {
    await clickhouse.command(withJsonAttributes(createTable));
    await using collector = await startCollector({ clickhouse, env: env() });
    const bad = markedSpans([undefined, NOT_UTF8_ATTRIBUTE]);
    const requests = [...good(3), bad, ...good(2)];
    const answers = await sendAll(collector, requests);
    expect(answers.map(({ status }) => status)).toEqual(requests.map(() => 200));
    await idle(collector);
    expect(await stored()).toEqual(idsOf(...requests));
    expect(await deadSpans()).toEqual([]);
    const [{ text }] = await clickhouse.query<{ text: string }>(
      `SELECT toString(SpanAttributes.text) AS text FROM otel_traces WHERE SpanId = '${bad.spanIds[1]}'`,
    );
    expect(text).toBe('\ufffdbad\ufffd');
    expectBalance(accountsOf(await collector.metrics()));
  });
});

test('with the disk buffer, spans that came before ClickHouse was there are stored, and text that is not UTF-8 repaired', async () => {
  await clickhouse.command(withJsonAttributes(createTable));
  await using proxy = await startProxy(clickhouse);
  proxy.fail({ kind: 'cut request' }, 'all');
  await using collector = await startCollector({ env: { ...withDiskBuffer(), CLICKHOUSE_URL: proxy.url } });
  const bad = markedSpans([undefined, NOT_UTF8_ATTRIBUTE]);
  const requests = [...good(3), bad, ...good(2)];
  expect((await sendAll(collector, requests)).map(({ status }) => status)).toEqual(requests.map(() => 200));
  proxy.restore();
  await idle(collector);
  // From here on the table is known, and the block needs no repair.
  const later = markedSpans([NOT_UTF8_ATTRIBUTE, undefined]);
  expect((await sendAll(collector, [later])).map(({ status }) => status)).toEqual([200]);
  await idle(collector);
  expect(await stored()).toEqual(idsOf(...requests, later));
  expect(await deadSpans()).toEqual([]);
  const texts = await clickhouse.query<{ text: string }>(
    `SELECT toString(SpanAttributes.text) AS text FROM otel_traces WHERE SpanId IN ('${bad.spanIds[1]}', '${later.spanIds[0]}')`,
  );
  expect(texts.map(({ text }) => text)).toEqual(['\ufffdbad\ufffd', '\ufffdbad\ufffd']);
  const accounts = accountsOf(await collector.metrics());
  expect(accounts).toMatchObject({ accepted: 19, sent: 19, failed: 0, dropped: 0 });
  expectBalance(accounts);
});

describe('a table with a constraint', () => {
  beforeEach(async () => {
    await clickhouse.command(createTable);
    await clickhouse.command(`ALTER TABLE otel_traces ${ADD_CONSTRAINT}`);
  });

  test('with the disk buffer: of five requests, bad spans become a dead letter, all others are stored; the accounts balance', async () => {
    await using collector = await startCollector({ clickhouse, env: withDiskBuffer() });
    const mixed = markedSpans([undefined, FORBIDDEN, undefined]);
    const requests = [...good(2), mixed, ...good(2)];
    expect((await sendAll(collector, requests)).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    await idle(collector);
    expect(await deadSpans()).toEqual([mixed.spanIds[1]]);
    expect(await stored()).toEqual(idsOf(...requests).filter((id) => id !== mixed.spanIds[1]));
    const accounts = accountsOf(await collector.metrics());
    expect(accounts).toMatchObject({ accepted: 15, sent: 14, failed: 1, dropped: 1, buffered: 0 });
    expectBalance(accounts);
  });

  test('in memory mode each request is answered by what became of its own spans', async () => {
    await using collector = await startCollector({ clickhouse });
    const mixed = markedSpans([undefined, FORBIDDEN, undefined]);
    const hopeless = markedSpans([FORBIDDEN, FORBIDDEN]);
    const requests = [...good(2), mixed, hopeless, ...good(2)];
    const answers = await sendAll(collector, requests);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 500, 200, 200]);
    expect(successOf(answers[0])).toEqual({});
    expect(successOf(answers[2])).toEqual({
      partialSuccess: { rejectedSpans: '1', errorMessage: '1 span was rejected by ClickHouse: the table does not accept its values.' },
    });
    expect(statusOf(answers[3]).message).toBe('ClickHouse rejected the spans of this request.');
    expect(await stored()).toEqual(idsOf(...requests.filter((request) => request !== hopeless)).filter((id) => id !== mixed.spanIds[1]));
    const metrics = await collector.metrics();
    const accounts = accountsOf(metrics);
    expect(accounts).toMatchObject({ accepted: 14, refused: 2, rejected: 1, sent: 14, failed: 3, dropped: 0, buffered: 0 });
    expect(metrics.get('hive_collector_rejected_spans_total{reason="refused"}')).toBe(1);
    expectBalance(accounts);
  });

  test('acknowledged when received, without a disk buffer: a dead letter of the spans at fault', async () => {
    await using collector = await startCollector({
      clickhouse,
      env: { ACK_MODE: 'received', DEAD_LETTERS_DIR: join(dir, 'dead-letters') },
    });
    const mixed = markedSpans([undefined, FORBIDDEN]);
    const requests = [...good(2), mixed];
    expect((await sendAll(collector, requests)).map(({ status }) => status)).toEqual([200, 200, 200]);
    await idle(collector);
    expect(await deadSpans()).toEqual([mixed.spanIds[1]]);
    expect(await stored()).toEqual(idsOf(...requests).filter((id) => id !== mixed.spanIds[1]));
    expectBalance(accountsOf(await collector.metrics()));
  });

  test('a collector killed between the last good span and the dead letter: the accounts of the next one balance', async () => {
    const mixed = markedSpans([undefined, FORBIDDEN, undefined, undefined]);
    // Where the folder should be is a file.
    writeFileSync(join(dir, 'dead-letters'), '');
    {
      await using first = await startCollector({ clickhouse, env: withDiskBuffer() });
      expect((await sendAll(first, [mixed])).map(({ status }) => status)).toEqual([200]);
      await until(() => first.output().includes("A rejected block can't be stored as a dead letter"), 'the search has ended');
      await first.stop('SIGKILL');
    }
    rmSync(join(dir, 'dead-letters'));
    await using second = await startCollector({ clickhouse, env: withDiskBuffer() });
    await idle(second);
    expect(await deadSpans()).toEqual([mixed.spanIds[1]]);
    expect(await stored()).toEqual(mixed.spanIds.toSpliced(1, 1).toSorted());
    const metrics = await second.metrics();
    const accounts = accountsOf(metrics);
    expect(accounts).toMatchObject({ recovered: 1, sent: 0, dropped: 1 });
    expectBalance(accounts);
    expect(metrics.get('hive_collector_disk_buffer_replayed_spans_total')).toBe(0);
  });

  test.each([4, 7, 10])(
    'a collector killed in the middle of it (insert %i), and a table that then takes everything: each span is stored once or a dead letter',
    async (inserts) => {
      await using proxy = await startProxy(clickhouse);
      const requests = Array.from({ length: 12 }, (_, index) =>
        markedSpans(Array.from({ length: 5 }, (__, span) => (span === index % 9 ? FORBIDDEN : undefined))),
      );
      {
        await using first = await startCollector({ clickhouse: proxy, env: withDiskBuffer() });
        expect((await sendAll(first, requests)).every(({ status }) => status === 200)).toBe(true);
        await until(() => proxy.inserts >= inserts, 'some of it was sent');
        proxy.fail({ kind: 'hold answer' });
        const seen = proxy.inserts;
        await until(() => proxy.inserts > seen, 'another insert was sent, and nobody knows what became of it');
        await first.stop('SIGKILL');
      }
      proxy.restore();
      await clickhouse.command('ALTER TABLE otel_traces DROP CONSTRAINT allowed');
      await using second = await startCollector({ clickhouse, env: withDiskBuffer() });
      await idle(second);
      expect([...(await stored()), ...(await deadSpans())].toSorted()).toEqual(idsOf(...requests));
      expectBalance(accountsOf(await second.metrics()));
    },
  );
});
