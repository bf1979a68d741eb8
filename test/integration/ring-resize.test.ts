import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { lockOrFail } from '../../src/disk-buffer/mapped-file.ts';
import { State } from '../../src/disk-buffer/record.ts';
import { Ring } from '../../src/disk-buffer/ring.ts';
import { RECORDS_START } from '../../src/disk-buffer/superblock.ts';
import { loadLibc } from '../../src/runtime/libc.ts';
import { change, flip } from '../support/generators/damage.ts';

const MB = 1024 ** 2;
const program = fileURLToPath(new URL('../../src/cli/ring.ts', import.meta.url));

let dir = '';
let path = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ring-resize-'));
  path = join(dir, 'ring');
});
afterEach(() => rmSync(dir, { recursive: true }));

const command = (...args: string[]) => [program, 'resize', dir, ...args];

function resize(...args: string[]) {
  return spawnSync(process.execPath, command(...args), { encoding: 'utf8' });
}

interface Content {
  readonly id: string;
  readonly replays: readonly object[];
  readonly waiting: object;
  readonly damage: readonly object[];
}

/** What a start finds in the ring, and sends. */
function contentOf(ring: Ring): Content {
  const replays = ring.replays.map(({ epoch, first, last, server, records }) => ({
    epoch,
    first,
    last,
    server,
    frames: records.map(({ frame, sequence, rows, writtenAtMs }) => ({ frame: Buffer.from(frame), sequence, rows, writtenAtMs })),
  }));
  return { id: ring.id, replays, waiting: { ...ring.waiting }, damage: ring.damage };
}

function opened(bytesWhenNew = MB): Content & { readonly frames: readonly Buffer[] } {
  const ring = Ring.open(path, bytesWhenNew);
  const content = contentOf(ring);
  const frames: Buffer[] = [];
  for (let taken = ring.take(1, 1); taken !== undefined; taken = ring.take(1, 1)) frames.push(Buffer.from(taken.records[0].frame));
  ring.close();
  return { ...content, frames };
}

const frame = (number: number, bytes = 50_000) => Buffer.alloc(bytes, `record ${number} `);

/** Records of all states, around the end of the file: an insert under way, one that has ended behind it, records that wait. */
function fill(): Content {
  const ring = Ring.open(path, MB);
  for (let number = 0; number < 15; number++) ring.append(frame(number), 10, number);
  for (let number = 0; number < 12; number++) ring.complete(ring.take(1, 1)!, State.inserted);
  ring.saveTail();
  ring.confirm();
  for (let number = 15; number < 26; number++) ring.append(frame(number), 10, number);
  const underWay = ring.take(20, 1e9)!;
  ring.setServer(underWay, 3);
  ring.complete(ring.take(1, 1)!, State.inserted);
  ring.setServer(ring.take(20, 1e9)!, 4);
  const { waiting } = contentOf(ring);
  ring.close();
  const again = Ring.open(path, MB);
  const content = contentOf(again);
  again.close();
  expect(content.replays).toMatchObject([{ first: 13, server: 3 }, { server: 4 }]);
  expect(content.waiting).toEqual(waiting);
  return content;
}

test.each([2, 64])('a ring of 1 MB becomes one of %s MB, with the same records in the same inserts, and takes more', (megabytes) => {
  const before = fill();
  const { status, stdout } = resize('--size-mb', String(megabytes));
  expect(stdout).toMatch(new RegExp(`had 1\\.0 MB, and has ${megabytes} MB now, with \\d+ spans in it`));
  expect(status).toBe(0);
  expect(statSync(path).size).toBe(megabytes * MB);
  expect(statSync(path).blocks * 512).toBeGreaterThanOrEqual(megabytes * MB);
  const ring = Ring.open(path, MB);
  expect(contentOf(ring)).toEqual(before);
  for (let number = 100; number < 120; number++) expect(ring.append(frame(number), 1, 0)).toBeDefined();
  ring.close();
  const { frames, ...after } = opened();
  expect(after.damage).toEqual([]);
  expect(frames.slice(-20).every((found, index) => found.equals(frame(100 + index)))).toBe(true);
});

test('it becomes smaller, too, and an empty one keeps its numbers', () => {
  const ring = Ring.open(path, 8 * MB);
  for (let number = 0; number < 20; number++) ring.append(frame(number), 1, 0);
  for (let number = 0; number < 20; number++) ring.complete(ring.take(1, 1)!, State.inserted);
  ring.close();
  expect(resize('--size-mb', '1')).toMatchObject({ status: 0, stdout: `${path} had 8.0 MB, and has 1 MB now\n` });
  const smaller = Ring.open(path, 8 * MB);
  smaller.append(frame(20), 1, 0);
  expect(smaller.take(1, 1)).toMatchObject({ first: 21 });
  smaller.close();
  expect(resize('--size-mb', '1')).toMatchObject({ status: 0, stdout: `${path} has 1 MB already\n` });
});

test('it is refused, and nothing changes: while a collector has the ring, when spans do not fit, and with damage', () => {
  const ring = Ring.open(path, 2 * MB);
  for (let number = 0; number < 30; number++) ring.append(frame(number), 1, 0);
  expect(resize('--size-mb', '4')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('is in use by another collector') as string,
  });
  ring.close();
  const before = readFileSync(path);
  expect(resize('--size-mb', '1')).toMatchObject({ status: 1, stderr: expect.stringContaining('its spans take 2 MB') as string });
  expect(resize('--size-mb', '1', '--or-keep')).toMatchObject({
    status: 0,
    stderr: expect.stringContaining('its spans take 2 MB') as string,
  });
  expect(resize('--size-mb', '1048576')).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/more in .*, where \d+ MB are free/) as string,
  });
  expect(readFileSync(path).equals(before)).toBe(true);
  change(path, RECORDS_START + 100, flip);
  const damaged = readFileSync(path);
  expect(resize('--size-mb', '4')).toMatchObject({ status: 1, stderr: expect.stringContaining('it is damaged') as string });
  expect(readFileSync(path).equals(damaged)).toBe(true);
});

test('a collector that opened the file just before another took its place gets no lock on it', () => {
  fill();
  const fd = openSync(path, 'r+');
  expect(resize('--size-mb', '2')).toMatchObject({ status: 0 });
  expect(() => lockOrFail(loadLibc(), fd, path)).toThrow('is in use by another collector');
  closeSync(fd);
});

test('a size is asked for, and an empty directory is no error with --or-keep', () => {
  for (const args of [[], ['--size-mb', '0'], ['--size-mb', 'much']])
    expect(resize(...args)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('resize needs --size-mb, a whole number from 1') as string,
    });
  expect(resize('--size-mb', '2')).toMatchObject({ status: 1 });
  expect(resize('--size-mb', '2', '--or-keep')).toMatchObject({
    status: 0,
    stderr: expect.stringContaining('it has no file called ring') as string,
  });
});

test('killed at any moment, it leaves the old ring or the new one, and every record', async () => {
  const first = Ring.open(path, 32 * MB);
  for (let number = 0; number < 28; number++) first.append(frame(number, MB), 1, 0);
  const { id } = first;
  first.close();
  const sizes = new Set<number>();
  let unfinished = 0;
  let wanted = 40;
  for (let round = 0; round < 6; round++) {
    const child = spawn(process.execPath, command('--size-mb', String(wanted)), { stdio: 'ignore' });
    const exited = once(child, 'exit');
    const isRunning = () => child.exitCode === null && child.signalCode === null;
    const isReplaced = () => statSync(path).size === wanted * MB;
    // In turns: while it writes the second file, and once that has taken the place of the first.
    if (round % 2 === 0) {
      while (!existsSync(`${path}.unfinished`) && !isReplaced() && isRunning()) await delay(1);
      await delay(Math.random() * 20);
    } else {
      while (!isReplaced() && isRunning()) await delay(1);
    }
    child.kill('SIGKILL');
    await exited;
    if (existsSync(`${path}.unfinished`)) unfinished++;
    const { size } = statSync(path);
    sizes.add(size);
    const ring = Ring.open(path, MB);
    expect(ring.id).toBe(id);
    expect(ring.damage).toEqual([]);
    expect(ring.waiting).toMatchObject({ blocks: 28, rows: 28 });
    ring.close();
    if (size === wanted * MB) wanted = wanted === 40 ? 48 : 40;
  }
  expect(unfinished).toBeGreaterThan(0);
  expect(sizes.size).toBeGreaterThan(1);
  expect(opened().frames.every((found, number) => found.equals(frame(number, MB)))).toBe(true);
}, 300_000);
