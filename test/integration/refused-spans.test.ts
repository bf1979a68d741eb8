import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { readNativeBlocks } from '../../src/cli/native-reader.ts';
import { DeadLetterFolder } from '../../src/dead-letters/dead-letter-folder.ts';
import { violatedRow } from '../../src/storage/exception-text.ts';
import { createStatements } from '../../src/storage/table.ts';
import { BlockEncoder, type SealedBlock } from '../../src/transcode/block-encoder.ts';
import {
  type Change,
  FORBIDDEN,
  ADD_CONSTRAINT,
  NOT_UTF8_ATTRIBUTE,
  markedSpans,
  type MarkedSpans,
  NOT_UTF8,
  text,
  withJsonAttributes,
} from '../support/generators/marked-spans.ts';
import { startRingBatching, temporaryDir } from '../support/generators/ring-batching.ts';
import type { KeyValue } from '../support/oracle/otlp-request.ts';
import { startProxy } from '../support/servers/clickhouse-proxy.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Environment, until } from '../support/servers/collector.ts';

const program = fileURLToPath(new URL('../../src/cli/dead-letters.ts', import.meta.url));
const [, createTable] = createStatements('default', 'otel_traces');

let clickhouse: TestClickHouse;
let ringDir = '';
let rings = 0;
const dir = temporaryDir();

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(async () => {
  await clickhouse[Symbol.asyncDispose]();
  dir.remove();
});
beforeEach(async () => {
  ringDir = join(dir.path, String(rings++));
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  await clickhouse.command(createTable);
});

const start = (env: Environment = {}, url = clickhouse.url) =>
  startRingBatching(ringDir, [url], { CLICKHOUSE_TIMEOUT_MS: '20000', ...env });
const folder = () => new DeadLetterFolder(join(ringDir, 'dead-letters'));

/** A block of several requests. */
function blockOf(...requests: readonly MarkedSpans[]): SealedBlock {
  const encoder = new BlockEncoder('hive');
  requests.forEach(({ body }, index) => encoder.add([body], 'protobuf', `target-${index}`));
  return encoder.seal();
}

/** Of all dead letters, by ClickHouse's exception code. */
async function deadSpans(): Promise<Record<string, string[]>> {
  const spans: Record<string, string[]> = {};
  for (const { token, code, rows } of await folder().list()) {
    const ids = readNativeBlocks(zstdDecompressSync(await folder().block(token))).flatMap(
      ({ columns }) => columns.get('SpanId') as string[],
    );
    expect(ids).toHaveLength(rows);
    (spans[code] ??= []).push(...ids);
  }
  return spans;
}

const storedSpans = async () => (await clickhouse.query<{ SpanId: string }>('SELECT SpanId FROM otel_traces')).map(({ SpanId }) => SpanId);
const sorted = (...ids: readonly (readonly string[])[]) => ids.flat().toSorted();
const times = <T>(count: number, of: (index: number) => T) => Array.from({ length: count }, (_, index) => of(index));

/** Other text that is not UTF-8, of the same length. NOT_UTF8 is written to a request first, and then this. */
const OTHER = `${NOT_UTF8.slice(0, -1)}\u0002`;
function withOther({ body, spanIds }: MarkedSpans): MarkedSpans {
  const changed = Buffer.from(body);
  for (let at = changed.indexOf(OTHER); at >= 0; at = changed.indexOf(OTHER, at))
    Buffer.from([0xfe, 0x62, 0x61, 0x64, 0xc3]).copy(changed, at);
  return { body: changed, spanIds };
}

const names = (attributes: KeyValue[]) => void attributes.push(text(NOT_UTF8, 'one'), text('between', 'both'), text(OTHER, 'other'));
const AT_FAULT: ReadonlySet<number> = new Set([0, 57, 58, 299]);

describe('of a block with spans that the table does not take', () => {
  test('a dead letter holds just these, the others are stored once, and it is replayed once when the table takes them', async () => {
    await clickhouse.command(`ALTER TABLE otel_traces ${ADD_CONSTRAINT}`);
    const good = times(4, () => markedSpans(times(5, () => undefined)));
    const mixed = markedSpans([undefined, FORBIDDEN, undefined, FORBIDDEN, undefined]);
    {
      await using batching = start();
      await batching.queue.push(blockOf(good[0], good[1], mixed, good[2], good[3]));
      await batching.drained();
      expect(batching.workers.stats.refusedRows).toBe(2);
      expect(batching.storage.stats.insertedRows).toBe(23);
      expect(batching.deadLetters.keptRows).toBe(2);
      expect(batching.queue.accounts).toMatchObject({ buffered: 0 });
    }
    const bad = [mixed.spanIds[1], mixed.spanIds[3]];
    const fine = [mixed.spanIds[0], mixed.spanIds[2], mixed.spanIds[4]];
    expect(await deadSpans()).toEqual({ 469: bad });
    expect((await storedSpans()).toSorted()).toEqual(sorted(...good.map(({ spanIds }) => spanIds), fine));

    await clickhouse.command('ALTER TABLE otel_traces DROP CONSTRAINT allowed');
    const child = spawn(process.execPath, [program, 'replay'], {
      env: { PATH: process.env.PATH, DISK_BUFFER_DIR: ringDir, CLICKHOUSE_URL: clickhouse.url },
      stdio: 'ignore',
    });
    expect(await once(child, 'close')).toEqual([0, null]);
    expect((await storedSpans()).toSorted()).toEqual(sorted(...good.map(({ spanIds }) => spanIds), mixed.spanIds));
    expect(await folder().list()).toEqual([]);
  });

  test('those at fault are found wherever they are, also where the row is not read from the exception', async () => {
    const [, createNamed] = createStatements('default', 'otel traces');
    await clickhouse.command('DROP TABLE IF EXISTS `otel traces` SYNC');
    await clickhouse.command(createNamed);
    await clickhouse.command(`ALTER TABLE \`otel traces\` ${ADD_CONSTRAINT}`);
    const spans = markedSpans(times(300, (index) => (AT_FAULT.has(index) ? FORBIDDEN : undefined)));
    await using batching = start({ CLICKHOUSE_TABLE: 'otel traces' });
    await batching.queue.push(blockOf(spans));
    await until(() => batching.ring.usedBytes === 0, 'it is searched', 60_000);
    expect(violatedRow(batching.storage.lastError!.message)).toBeUndefined();
    expect(await deadSpans()).toEqual({ 469: spans.spanIds.filter((_, index) => AT_FAULT.has(index)) });
    const rows = await clickhouse.query<{ SpanId: string }>('SELECT SpanId FROM `otel traces`');
    expect(rows.map(({ SpanId }) => SpanId).toSorted()).toEqual(sorted(spans.spanIds.filter((_, index) => !AT_FAULT.has(index))));
  });

  test('of thousands at fault, ClickHouse is sent a few hundred inserts, and the spans of others are stored', async () => {
    await clickhouse.command(`ALTER TABLE otel_traces ${ADD_CONSTRAINT}`);
    await using proxy = await startProxy(clickhouse);
    const before = markedSpans(times(20, () => undefined));
    const hostile = markedSpans(times(5_000, () => FORBIDDEN));
    const behind = markedSpans(times(20, () => undefined));
    await using batching = start({}, proxy.url);
    await batching.queue.push(blockOf(before, hostile, behind));
    await until(() => batching.ring.usedBytes === 0, 'it is searched', 100_000);
    expect(proxy.inserts).toBeLessThan(600);
    expect((await storedSpans()).toSorted()).toEqual(sorted(before.spanIds, behind.spanIds));
    expect((await deadSpans())['469'].toSorted()).toEqual(sorted(hostile.spanIds));
    expect(await folder().list()).toHaveLength(2);
  });

  test('what one server has stored of it goes to no other one', async () => {
    await clickhouse.command(`ALTER TABLE otel_traces ${ADD_CONSTRAINT}`);
    await using first = await startProxy(clickhouse);
    await using second = await startProxy(clickhouse);
    const spans = markedSpans(times(40, (index) => (index % 10 === 3 ? FORBIDDEN : undefined)));
    await using batching = startRingBatching(ringDir, [first.url, second.url]);
    await until(() => batching.storage.availability.all.every(({ availability }) => availability.isUp), 'both are there');
    await batching.queue.push(blockOf(spans));
    await until(() => first.inserts > 4, 'it is searched');
    first.fail({ kind: 'cut request' }, 'all');
    await until(() => batching.workers.pinnedSpans[first.url] !== undefined, 'it waits');
    first.restore();
    await batching.drained();
    expect(second.inserts).toBe(0);
    expect((await storedSpans()).toSorted()).toEqual(sorted(spans.spanIds.filter((_, index) => index % 10 !== 3)));
  });
});

describe('a table with attributes as JSON', () => {
  beforeEach(async () => {
    await clickhouse.command('DROP TABLE otel_traces SYNC');
    await clickhouse.command(withJsonAttributes(createTable));
  });

  test('takes text that is not UTF-8 when it is repaired, in one insert, and no dead letter is left', async () => {
    await using proxy = await startProxy(clickhouse);
    const bad = markedSpans([
      NOT_UTF8_ATTRIBUTE,
      (span) => void span.events[0].attributes.push(text('text', NOT_UTF8)),
      (span) => void span.links[0].attributes.push(text('text', NOT_UTF8)),
      (span) => void span.attributes.push(text(NOT_UTF8, 'key')),
      // A String: its bytes are its own.
      (span) => void (span.name = NOT_UTF8),
    ]);
    const good = times(5, () => markedSpans(times(3, () => undefined)));
    await using batching = start({}, proxy.url);
    await batching.queue.push(blockOf(good[0], good[1], bad, good[2], good[3], good[4]));
    await batching.drained();
    expect(await folder().list()).toEqual([]);
    expect((await storedSpans()).toSorted()).toEqual(sorted(...good.map(({ spanIds }) => spanIds), bad.spanIds));
    expect(batching.workers.stats.refusedRows).toBe(0);
    expect(proxy.inserts).toBe(3);
    const REPAIRED = '\ufffdbad\ufffd';
    const ids = bad.spanIds.map((id) => `'${id}'`).join();
    const rows = await clickhouse.query<{ span: string; event: string; link: string; keys: string[]; name: string }>(
      `SELECT toString(SpanAttributes.text) AS span, toString(\`Events.Attributes\`[1].text) AS event,
         toString(\`Links.Attributes\`[1].text) AS link, JSONAllPaths(SpanAttributes) AS keys, hex(SpanName) AS name
       FROM otel_traces WHERE SpanId IN (${ids}) ORDER BY indexOf([${ids}], SpanId)`,
    );
    expect(rows[0].span).toBe(REPAIRED);
    expect(rows[1].event).toBe(REPAIRED);
    expect(rows[2].link).toBe(REPAIRED);
    expect(rows[3].keys).toContain(REPAIRED);
    expect(rows[4].name).toBe('FF626164C3');
  });

  test('of two names of attributes that are the same when they are repaired, it has the last one', async () => {
    const changes: Change[] = [
      (span) => names(span.attributes),
      (span) => names(span.events[0].attributes),
      (span) => names(span.links[0].attributes),
      NOT_UTF8_ATTRIBUTE,
    ];
    const spans = withOther(markedSpans(changes));
    await using batching = start();
    await batching.queue.push(blockOf(markedSpans([undefined]), spans, markedSpans([undefined])));
    await batching.drained();
    expect(await folder().list()).toEqual([]);
    const columns = ['SpanAttributes', '`Events.Attributes`[1]', '`Links.Attributes`[1]'].map(
      (column) => `${column}.\`\ufffdbad\ufffd\`::String`,
    );
    const rows = await clickhouse.query<Record<string, string>>(
      `SELECT ${columns.map((column, index) => `${column} AS c${index}`).join()}, SpanAttributes.key::String AS key,
         SpanAttributes.between::String AS between, SpanAttributes.text::String AS text
       FROM otel_traces WHERE SpanId IN (${spans.spanIds.map((id) => `'${id}'`).join()}) ORDER BY key`,
    );
    const none = { c0: '', c1: '', c2: '', between: '', text: '' };
    expect(rows).toEqual([
      { ...none, key: 'value 0', c0: 'other', between: 'both' },
      { ...none, key: 'value 1', c1: 'other' },
      { ...none, key: 'value 2', c2: 'other' },
      { ...none, key: 'value 3', text: '\ufffdbad\ufffd' },
    ]);
    expect(await clickhouse.query('SELECT count() AS spans FROM otel_traces')).toEqual([{ spans: '6' }]);
  });

  test('with a constraint as well: what is repaired and allowed is stored, what is not is a dead letter that can be replayed', async () => {
    await clickhouse.command("ALTER TABLE otel_traces ADD CONSTRAINT allowed CHECK SpanAttributes.forbidden::String != 'yes'");
    const spans = markedSpans(
      times(50, (index) => (span) => {
        if (index % 5 === 0) NOT_UTF8_ATTRIBUTE(span);
        if (index % 10 === 0) FORBIDDEN(span);
      }),
    );
    await using batching = start();
    await batching.queue.push(blockOf(spans));
    await batching.drained();
    const dead = spans.spanIds.filter((_, index) => index % 10 === 0);
    expect(
      Object.values(await deadSpans())
        .flat()
        .toSorted(),
    ).toEqual(sorted(dead));
    expect((await storedSpans()).toSorted()).toEqual(sorted(spans.spanIds.filter((_, index) => index % 10 !== 0)));
  });
});

/** Ends when the proxy has seen so many inserts, and leaves the rest to the next. */
async function interrupted(spans: MarkedSpans, inserts: number, lost: 'request' | 'answer'): Promise<void> {
  await using proxy = await startProxy(clickhouse);
  await using batching = start({ CLICKHOUSE_TIMEOUT_MS: '1000' }, proxy.url);
  await batching.storage.availability.whenUp();
  await batching.queue.push(blockOf(spans));
  await until(() => proxy.inserts >= inserts, 'some of it was sent');
  proxy.fail({ kind: lost === 'request' ? 'cut request' : 'hold answer' });
  await until(() => batching.storage.stats.failedInserts > 0 && batching.storage.lastError !== undefined, 'the way is cut');
}

describe('a collector that ends in the middle of it', () => {
  for (const change of ['nothing has changed', 'the table takes everything'] as const) {
    for (const lost of ['request', 'answer'] as const) {
      test(`leaves the rest to the next, and each span is stored once, when ${change}; lost: ${lost}`, async () => {
        for (const inserts of [3, 5, 8, 12]) {
          await clickhouse.command('DROP TABLE otel_traces SYNC');
          await clickhouse.command(createTable);
          await clickhouse.command(`ALTER TABLE otel_traces ${ADD_CONSTRAINT}`);
          const spans = markedSpans(times(64, (index) => (index % 16 === 5 ? FORBIDDEN : undefined)));
          await interrupted(spans, inserts, lost);
          if (change === 'the table takes everything') await clickhouse.command('ALTER TABLE otel_traces DROP CONSTRAINT allowed');
          await using batching = start();
          await batching.drained();
          const dead = Object.values(await deadSpans()).flat();
          expect(sorted(dead, await storedSpans())).toEqual(sorted(spans.spanIds));
          if (change === 'nothing has changed') expect(sorted(dead)).toEqual(sorted(spans.spanIds.filter((_, index) => index % 16 === 5)));
          for (const { token } of await folder().list()) await folder().remove(token);
        }
      });
    }
  }
});
