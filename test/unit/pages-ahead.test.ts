import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { beforeEach, expect, test, vi } from 'vitest';
import { Ring } from '../../src/disk-buffer/ring.ts';
import { State } from '../../src/disk-buffer/record.ts';
import type { Libc } from '../../src/runtime/libc.ts';

const EINVAL = 22;
const MB = 1024 ** 2;

const kernel = vi.hoisted(() => ({
  base: 0n,
  pageBytes: 0,
  loads: [] as { from: number; to: number; done: Promise<number> }[],
  refusesLoads: false,
}));

vi.mock(import('../../src/runtime/libc.ts'), async (importOriginal) => {
  const original = await importOriginal();
  const libc: Libc = original.loadLibc();
  const watched: Libc = {
    ...libc,
    map(fd, length) {
      const mapping = libc.map(fd, length);
      if (typeof mapping !== 'number') Object.assign(kernel, { base: mapping.address, pageBytes: libc.pageBytes });
      return mapping;
    },
    loadLater(address, length) {
      const from = Number(address - kernel.base);
      const done = kernel.refusesLoads ? Promise.resolve(EINVAL) : libc.loadLater(address, length);
      kernel.loads.push({ from, to: from + length, done });
      return done;
    },
  };
  return { ...original, loadLibc: () => watched };
});

let path: string;
beforeEach(() => {
  const dir = mkdtempSync(join(tmpdir(), 'pages-ahead-'));
  path = join(dir, 'ring');
  Object.assign(kernel, { loads: [], refusesLoads: false });
  return () => rmSync(dir, { recursive: true });
});

test('pages ahead of the head are in memory before the first write to them', async () => {
  const ring = Ring.open(path, 32 * MB);
  await appendMb(ring, 3);
  // Whole steps: those that were loaded for nothing would be written to the disk, too.
  expect(residentMb(4, 8)).toBeGreaterThan(3.9);
  expect(residentMb(8.1, 32)).toBe(0);
  await appendMb(ring, 17);
  expect(residentMb(20, 22)).toBeGreaterThan(1.9);
  expect(residentMb(25, 32)).toBe(0);
  ring.close();
});

test('a ring that is emptied near the start of its file loads nothing', async () => {
  const ring = Ring.open(path, 32 * MB);
  for (let turn = 0; turn < 20; turn++) {
    await appendMb(ring, 1.5);
    empty(ring);
  }
  expect(kernel.loads).toEqual([]);
  ring.close();
});

test('nothing is loaded twice while the ring is emptied within the pages that stay in memory', async () => {
  const ring = Ring.open(path, 32 * MB);
  for (let turn = 0; turn < 5; turn++) {
    await appendMb(ring, 9);
    empty(ring);
  }
  expect(kernel.loads).toHaveLength(2);
  ring.close();
});

test('pages that were loaded for nothing are unloaded when the head returns to the start of the file', async () => {
  const ring = Ring.open(path, 64 * MB);
  await appendMb(ring, 19);
  expect(residentMb(20, 24)).toBeGreaterThan(2);
  empty(ring);
  await appendMb(ring, 1);
  expect(residentMb(20, 24)).toBe(0);
  ring.close();
});

test('on its next way through the file, pages are loaded again', async () => {
  const ring = Ring.open(path, 32 * MB);
  await appendMb(ring, 27);
  expect(kernel.loads.at(-1)!.to).toBe(32 * MB);
  // One record is left: an empty ring would begin at the start of the file.
  free(ring, ring.waiting.blocks - 1);
  kernel.loads.length = 0;
  await appendMb(ring, 8);
  expect(kernel.loads).toHaveLength(1);
  expect(kernel.loads[0].from).toBeLessThan(5 * MB);
  expect(residentMb(5, 8)).toBe(3);
  ring.close();
});

test('after the kernel has refused to load pages, none are loaded, and writes go on', async () => {
  kernel.refusesLoads = true;
  const ring = Ring.open(path, 32 * MB);
  await appendMb(ring, 20);
  expect(kernel.loads).toHaveLength(1);
  expect(ring.waiting.bytes).toBe(20 * MB);
  ring.close();
});

test('a ring may be closed while pages are being loaded', async () => {
  const ring = Ring.open(path, 32 * MB);
  const frame = Buffer.alloc(MB, 1);
  for (let mb = 0; mb < 3; mb++) ring.append(frame, 1, 0);
  expect(kernel.loads).toHaveLength(1);
  ring.close();
  expect(await kernel.loads[0].done).toBe(0);
  await nextTurn();
  expect(kernel.loads).toHaveLength(1);
});

/** Appends 16 records for each MB. After each MB, waits until the pages that are being loaded are loaded. */
async function appendMb(ring: Ring, mb: number): Promise<void> {
  const frame = Buffer.alloc(MB / 16, 1);
  for (let turn = 0; turn < mb * 16; turn++) {
    expect(ring.append(frame, 1, 0)).toBeDefined();
    if (turn % 16 < 15) continue;
    await kernel.loads.at(-1)?.done;
    await nextTurn();
  }
}

function empty(ring: Ring): void {
  free(ring, ring.waiting.blocks);
}

/** Ends the insert of the oldest `records` records, and frees their space. */
function free(ring: Ring, records: number): void {
  ring.complete(ring.take(records, Number.POSITIVE_INFINITY)!, State.inserted);
  ring.saveTail();
  ring.confirm();
}

/** How many MB of a range of the ring, in MB, are in this process's memory: proc_pid_pagemap(5). */
function residentMb(fromMb: number, toMb: number): number {
  const pages = Math.floor(((toMb - fromMb) * MB) / kernel.pageBytes);
  const entries = Buffer.alloc(pages * 8);
  const first = (Number(kernel.base) + fromMb * MB) / kernel.pageBytes;
  const fd = openSync('/proc/self/pagemap', 'r');
  readSync(fd, entries, 0, entries.length, Math.floor(first) * 8);
  closeSync(fd);
  let resident = 0;
  for (let at = 0; at < entries.length; at += 8) if (entries.readBigUInt64LE(at) >> 63n === 1n) resident++;
  return (resident * kernel.pageBytes) / MB;
}
