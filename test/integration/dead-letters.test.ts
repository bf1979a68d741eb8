import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { InsertWorkers } from '../../src/batch/insert-workers.ts';
import { replay, ReplayError } from '../../src/cli/dead-letters-replay.ts';
import { loadConfig } from '../../src/config/load-config.ts';
import { DeadLetterFolder } from '../../src/dead-letters/dead-letter-folder.ts';
import { MemoryBudget } from '../../src/queue/memory-budget.ts';
import { MemoryQueue } from '../../src/queue/memory-queue.ts';
import { InsertError } from '../../src/storage/insert-error.ts';
import type { SealedBlock } from '../../src/transcode/block-encoder.ts';
import { newBlock, SPANS_PER_BLOCK, startRingBatching, stored, temporaryDir, untilStored } from '../support/generators/ring-batching.ts';
import { startProxy } from '../support/servers/clickhouse-proxy.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Environment, until } from '../support/servers/collector.ts';

const program = fileURLToPath(new URL('../../src/cli/dead-letters.ts', import.meta.url));
const BROKEN: SealedBlock = { frame: Buffer.from('this is no zstd frame'), rows: 10 };
/** Of a block that a constraint refuses. Few, as each of them is sent alone, twice. */
const REFUSED_SPANS = 2;

let clickhouse: TestClickHouse;
let ringDir = '';
let deadLettersDir = '';
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
  deadLettersDir = join(ringDir, 'dead-letters');
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
});

const start = (env: Environment = {}) => startRingBatching(ringDir, [clickhouse.url], env);
const deadLetters = () => new DeadLetterFolder(deadLettersDir).list();

/** Runs the tool to its end. */
async function tool(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [program, ...args], {
    env: { PATH: process.env.PATH, DISK_BUFFER_DIR: ringDir, CLICKHOUSE_URL: clickhouse.url },
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) child[name].setEncoding('utf8').on('data', (text: string) => (output[name] += text));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, ...output };
}

/** Blocks whose spans violate a constraint that is taken away later. */
async function refuseSome(blocks: number): Promise<void> {
  await using batching = start();
  await batching.storage.availability.whenUp();
  await clickhouse.command("ALTER TABLE otel_traces ADD CONSTRAINT odd CHECK SpanAttributes['hive.target_id'] != 'target'");
  await batching.push(blocks, REFUSED_SPANS);
  await batching.drained();
  await clickhouse.command('ALTER TABLE otel_traces DROP CONSTRAINT odd');
}

describe('a block that ClickHouse refuses for good', () => {
  test('is found among a hundred, and becomes a dead letter; the others are stored once', async () => {
    await using batching = start();
    await batching.storage.availability.whenUp();
    const blocks = Array.from({ length: 100 }, (_, index) => (index === 37 ? BROKEN : newBlock()));
    await batching.pushTogether(blocks);
    await batching.drained();
    expect(await stored([clickhouse])).toEqual({ rows: 99 * SPANS_PER_BLOCK, spans: 99 * SPANS_PER_BLOCK });

    const [deadLetter, ...others] = await deadLetters();
    expect(others).toEqual([]);
    expect(deadLetter).toMatchObject({
      sequence: 38,
      rows: 10,
      code: '561',
      reason: expect.stringContaining('ZSTD_DECODER_FAILED'),
      server: clickhouse.url,
    });
    expect(deadLetter.query).toMatch(/^INSERT INTO `default`\.`otel_traces` \(.*\) FORMAT Native$/);
    expect(deadLetter.token).toMatch(new RegExp(`^${batching.ring.id}-[0-9a-f]{8}-38-38$`));
    expect(readFileSync(join(deadLettersDir, `${deadLetter.token}.native.zst`)).equals(BROKEN.frame)).toBe(true);
    expect(batching.deadLetters.describe()).toMatchObject({ state: 'ok', letters: 1, bytes: expect.any(Number) });
    expect(batching.workers.stats.refusedRows).toBe(10);
  });

  test('costs no other block of its insert a second copy, though ClickHouse is set to write in small pieces', async () => {
    await using proxy = await startProxy(clickhouse);
    // As a profile of the user may have it: what an insert says itself comes later in the URL, and counts.
    proxy.fail({ kind: 'parameters', text: 'min_insert_block_size_rows=1000&min_insert_block_size_bytes=0' });
    await using batching = startRingBatching(ringDir, [proxy.url], { BATCH_TIMEOUT_MS: '1000', CLICKHOUSE_TIMEOUT_MS: '30000' });
    await batching.storage.availability.whenUp();
    const good = Array.from({ length: 30 }, () => newBlock(500));
    for (const block of [...good, BROKEN]) await batching.queue.push(block);
    await batching.drained();
    expect(await stored([clickhouse])).toEqual({ rows: 15_000, spans: 15_000 });
    expect(await deadLetters()).toHaveLength(1);
  });

  test('is believed to be so only when it is refused twice: once, a proxy has garbled it', async () => {
    await using proxy = await startProxy(clickhouse);
    await using batching = startRingBatching(ringDir, [proxy.url]);
    await batching.storage.availability.whenUp();
    const refusal = 'Code: 33. DB::Exception: Cannot read all data: While executing Native. (CANNOT_READ_ALL_DATA) (version 26.7.2.1)';
    proxy.fail(
      {
        kind: 'answer',
        bytes: `HTTP/1.1 400 Bad Request\r\nX-ClickHouse-Exception-Code: 33\r\nContent-Length: ${refusal.length}\r\n\r\n${refusal}`,
      },
      'inserts',
      1,
    );
    await batching.push(1);
    await batching.drained();
    expect(batching.storage.stats.failedInserts).toBe(1);
    expect(await deadLetters()).toEqual([]);
    expect(await stored([clickhouse])).toEqual({ rows: SPANS_PER_BLOCK, spans: SPANS_PER_BLOCK });
  });

  test('stays in the disk buffer while there is no room for it, holds up nobody, and is offered again at the next start', async () => {
    mkdirSync(deadLettersDir, { recursive: true });
    writeFileSync(join(deadLettersDir, 'older.native.zst'), Buffer.alloc(1024 ** 2));
    {
      await using batching = start({ DEAD_LETTERS_MAX_MB: '1' });
      await batching.queue.push(BROKEN);
      await until(() => batching.deadLetters.describe().state === 'failing', "it can't be kept");
      expect(batching.deadLetters.describe().reason).toContain('is full (DEAD_LETTERS_MAX_MB)');
      await batching.push(20);
      await untilStored([clickhouse], 20 * SPANS_PER_BLOCK);
      expect(batching.ring.usedBytes).toBeGreaterThan(0);
      expect(await deadLetters()).toEqual([]);
    }
    rmSync(join(deadLettersDir, 'older.native.zst'));
    await using batching = start({ DEAD_LETTERS_MAX_MB: '1' });
    await batching.drained();
    expect(await deadLetters()).toHaveLength(1);
    expect(await stored([clickhouse])).toEqual({ rows: 20 * SPANS_PER_BLOCK, spans: 20 * SPANS_PER_BLOCK });
  });

  test('is one dead letter also when the collector ends before the disk buffer knows', async () => {
    {
      await using batching = start();
      await batching.queue.push(BROKEN);
      const token = batching.queue.take(1, 1e6)!;
      await batching.deadLetters.keep(token, { error: new InsertError('561', 'refused'), server: clickhouse.url });
    }
    await using batching = start();
    await batching.drained();
    expect(await deadLetters()).toHaveLength(1);
  });

  test('is a dead letter in memory only if its senders were told that it is stored', async () => {
    await using batching = start();
    const memory = (ackTimeoutMs: number | undefined) => {
      const queue = new MemoryQueue({
        budget: new MemoryBudget(1e9),
        ackTimeoutMs,
        storageRefusal: () => undefined,
        keepDeadLetter: (insert, refused) => batching.deadLetters.keep(insert, refused),
      });
      return { queue, workers: new InsertWorkers(queue, batching.storage, batching.config) };
    };
    await expect(memory(10_000).queue.push(BROKEN)).rejects.toMatchObject({ status: 500 });
    expect(await deadLetters()).toEqual([]);
    await expect(memory(undefined).queue.push(BROKEN)).rejects.toMatchObject({ status: 500 });
    expect(await deadLetters()).toHaveLength(1);
  });
});

describe('the tool', () => {
  test('lists, shows and exports dead letters', async () => {
    await refuseSome(2);
    const [first, second] = await deadLetters();
    const listed = await tool('list');
    expect(listed).toMatchObject({ status: 0, stderr: expect.stringMatching(/^2 dead letters, .* KB, in /) });
    expect(listed.stdout.split('\n')[0]).toMatch(new RegExp(`^${first.refusedAt} ${first.token} 2 spans 469 .*is violated`));

    const shown = await tool('show', second.token);
    expect(shown.stdout).toContain('"code": "469"');
    expect(shown.stdout).toMatch(/traces [0-9a-f]{32}/);

    const otlp = await tool('export', '--format', 'otlp');
    const requests = otlp.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { resourceSpans: { scopeSpans: { spans: object[] }[] }[] });
    expect(
      requests.flatMap(({ resourceSpans }) => resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))),
    ).toHaveLength(2 * REFUSED_SPANS);

    const out = join(ringDir, 'out');
    expect(await tool('export', first.token, '--format', 'native', '--out', out)).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/^1 dead letter in /),
    });
    expect(readdirSync(out).toSorted()).toEqual([`${first.token}.native.zst`, 'replay.sh'].toSorted());
  });

  test('replays what is fixed, once, however often it is interrupted', async () => {
    await refuseSome(3);
    const [first, second, third] = await deadLetters();
    // A replay that was killed when ClickHouse had the letter, and before it was removed.
    const copy = readFileSync(join(deadLettersDir, `${first.token}.json`));
    const block = readFileSync(join(deadLettersDir, `${first.token}.native.zst`));
    expect(await tool('replay', first.token)).toMatchObject({ status: 0, stdout: `${first.token} is stored: 2 spans\n` });
    expect(existsSync(join(deadLettersDir, `${first.token}.json`))).toBe(false);
    writeFileSync(join(deadLettersDir, `${first.token}.native.zst`), block);
    writeFileSync(join(deadLettersDir, `${first.token}.json`), copy);

    const { status, stderr, stdout } = await tool('replay');
    expect(stderr).toContain('3 of 3 dead letters stored');
    expect(status).toBe(0);
    expect(stdout.match(/is stored/g)).toHaveLength(3);
    for (const { token } of [second, third]) expect(stdout).toContain(token);
    expect(readdirSync(deadLettersDir)).toEqual([]);
    expect(await stored([clickhouse])).toEqual({ rows: 3 * REFUSED_SPANS, spans: 3 * REFUSED_SPANS });
  });

  test('replays to another server what the one that is gone has refused, and then to no third one', async () => {
    await refuseSome(1);
    const folder = new DeadLetterFolder(deadLettersDir);
    const [deadLetter] = await folder.list();
    await using first = await startProxy(clickhouse);
    await using second = await startProxy(clickhouse);
    const config = loadConfig({ CLICKHOUSE_URL: `${first.url},${second.url}`, DISABLE_AUTH: 'true' });
    const replayAll = async () => replay(config, folder, await folder.list(), () => {});

    first.fail({ kind: 'cut answer' });
    second.fail({ kind: 'cut request' }, 'all');
    await expect(replayAll()).rejects.toThrow(ReplayError);
    expect(await folder.list()).toEqual([{ ...deadLetter, server: first.url }]);
    expect((await stored([clickhouse])).rows).toBe(REFUSED_SPANS);

    first.fail({ kind: 'cut request' }, 'all');
    second.restore();
    const replayed = replayAll();
    await sleep(500);
    first.restore();
    await replayed;
    expect(second.inserts).toBe(0);
    expect(await folder.list()).toEqual([]);
    expect(await stored([clickhouse])).toEqual({ rows: REFUSED_SPANS, spans: REFUSED_SPANS });
  });

  test('leaves what is refused again, and says so with its exit code', async () => {
    {
      await using batching = start();
      await batching.queue.push(BROKEN);
      await batching.drained();
    }
    const [{ token }] = await deadLetters();
    const { status, stdout, stderr } = await tool('replay');
    expect(stdout).toContain(`${token} is rejected again: Code: 561`);
    expect(stderr).toContain('0 of 1 dead letter stored');
    expect(status).toBe(1);
    expect(await deadLetters()).toHaveLength(1);
    expect((await tool('show', token)).stdout).toContain("it can't be read");
  });

  test('works on the folder of a running collector, which counts anew', async () => {
    await using batching = start();
    await batching.queue.push(BROKEN);
    await batching.drained();
    expect(batching.deadLetters.count).toBe(1);
    const [{ token }] = await deadLetters();
    expect((await tool('export', '--format', 'otlp')).stderr).toContain(`${token} is skipped`);
    for (const name of readdirSync(deadLettersDir)) rmSync(join(deadLettersDir, name));
    await until(() => batching.deadLetters.count === 0 && batching.deadLetters.bytes === 0, 'the dead letter is gone');
  });

  test('ignores files that are no dead letters, and replays the others', async () => {
    await refuseSome(1);
    for (const [name, text] of [
      ['notes.json', 'to do'],
      ['other.json', '{}'],
    ])
      writeFileSync(join(deadLettersDir, name), text);
    expect(await tool('list')).toMatchObject({ status: 0, stderr: expect.stringContaining('notes.json is not a dead letter') });
    expect(await tool('replay')).toMatchObject({ status: 0, stderr: expect.stringContaining('1 of 1 dead letter stored') });
    expect(readdirSync(deadLettersDir).toSorted()).toEqual(['notes.json', 'other.json']);
  });

  test('replays nothing into another table than the one that refused it', async () => {
    await refuseSome(1);
    const folder = new DeadLetterFolder(deadLettersDir);
    await clickhouse.command('CREATE TABLE other AS otel_traces');
    const config = loadConfig({ CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_TABLE: 'other', DISABLE_AUTH: 'true' });
    await expect(replay(config, folder, await folder.list(), () => {})).rejects.toThrow(
      /sent with INSERT INTO `default`.`otel_traces`, but the environment names INSERT INTO `default`.`other`/,
    );
    expect((await stored([clickhouse], 'other')).rows).toBe(0);
    expect(await deadLetters()).toHaveLength(1);
    await clickhouse.command('DROP TABLE other SYNC');
  });

  test('explains itself, and what is wrong with a command line', async () => {
    expect(await tool()).toMatchObject({ status: 0, stdout: expect.stringContaining('npm run dead-letters -- replay') });
    expect(await tool('burn')).toMatchObject({ status: 2, stderr: expect.stringContaining('Unknown command: burn') });
    expect(await tool('show')).toMatchObject({ status: 2, stderr: expect.stringContaining('show needs the token') });
    expect(await tool('replay', 'x')).toMatchObject({ status: 2, stderr: expect.stringContaining('There is no dead letter x') });
    expect(await tool('export', '--format', 'csv')).toMatchObject({ status: 2, stderr: expect.stringContaining('Allowed: native, otlp') });
    expect(await tool('list', '--all')).toMatchObject({ status: 2, stderr: "Unknown option '--all'; see --help.\n" });
    expect(await tool('list')).toMatchObject({ status: 0, stdout: '', stderr: expect.stringContaining('0 dead letters') });
  });
});
