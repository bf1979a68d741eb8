import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTick } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MappedFile } from '../../src/disk-buffer/mapped-file.ts';
import { RingQueue, type SyncMode } from '../../src/disk-buffer/ring-queue.ts';
import { Ring } from '../../src/disk-buffer/ring.ts';
import { ServerNames } from '../../src/disk-buffer/server-names.ts';
import type { Insert } from '../../src/queue/block.ts';
import { InsertError } from '../../src/storage/insert-error.ts';
import { Random } from '../support/generators/random.ts';

/*
 * A machine that loses power, again and again. The disk is a buffer of its own, to which pages of the ring's file come
 * in three ways: the kernel writes one back whenever it likes, a sync that has ended has written all it was asked for,
 * and when the power goes, some sectors of some pages have just made it. The next life begins from that buffer.
 */

const SECTOR_BYTES = 512;
const PAGE_BYTES = 4096;
const SUPERBLOCK_PAGES = 2;
const dir = mkdtempSync(join(tmpdir(), 'ring-power-loss-'));
afterAll(() => rmSync(dir, { recursive: true }));

const SERVER = 'http://clickhouse:8123';
writeFileSync(join(dir, 'servers'), `${SERVER}\n`);
const servers = new ServerNames(join(dir, 'servers'));

interface PendingSync {
  readonly from: number;
  readonly to: number;
  /** The file when the sync was asked for: at least this is on the disk when it ends. */
  readonly asked: Buffer;
  readonly memory: Buffer;
  readonly end: (error?: Error) => void;
}

let machine: Machine;

/** The disk behind the ring's file, and the syncs under way. */
class Machine {
  private disk: Buffer;
  private syncs: PendingSync[] = [];
  private file: MappedFile | undefined;
  private readonly random: Random;

  constructor(random: Random, bytes: number) {
    this.random = random;
    this.disk = Buffer.alloc(bytes);
  }

  sync(file: MappedFile, from: number, to: number): Promise<void> {
    return new Promise((resolve, reject) => {
      // From a life that has ended.
      if (file !== this.file) return;
      const memory = file.bytes;
      const end = (error?: Error) => (error === undefined ? resolve() : reject(error));
      this.syncs.push({ from, to, asked: Buffer.from(memory), memory, end });
    });
  }

  /** One sync ends, in whatever order; with an error, some of its pages may be on the disk all the same. */
  endSync(error?: Error): void {
    if (this.syncs.length === 0) return;
    const [{ from, to, asked, memory, end }] = this.syncs.splice(this.random.below(this.syncs.length), 1);
    for (let page = Math.floor(from / PAGE_BYTES); page * PAGE_BYTES < to; page++) {
      if (error !== undefined && this.random.chance(0.5)) continue;
      const at = page * PAGE_BYTES;
      const changedMeanwhile = asked.compare(memory, at, at + PAGE_BYTES, at, at + PAGE_BYTES) !== 0;
      if (changedMeanwhile && page < SUPERBLOCK_PAGES && this.random.chance(0.5)) this.tear(memory, page);
      else (changedMeanwhile && this.random.chance(0.5) ? memory : asked).copy(this.disk, at, at, at + PAGE_BYTES);
    }
    end(error);
  }

  /** The first thing a ring does when it is opened. */
  syncNow(file: MappedFile, from: number, to: number): void {
    this.file = file;
    file.bytes.copy(this.disk, from, from, to);
  }

  endLife(): void {
    this.file = undefined;
    this.syncs = [];
  }

  /** The kernel writes a page back. */
  writeBack(memory: Buffer): void {
    const at = this.random.below(Math.ceil(memory.length / PAGE_BYTES)) * PAGE_BYTES;
    memory.copy(this.disk, at, at, at + PAGE_BYTES);
  }

  /** What is on the disk when the power goes: some pages more, and of some only some sectors. */
  losePower(memory: Buffer): Buffer {
    const { random } = this;
    const share = random.pick([0, 0.1, 0.5, 0.9, 1]);
    // Superblocks are written within a microsecond: the end of power does not find both half done.
    const torn = random.chance(0.4) ? random.below(SUPERBLOCK_PAGES) * PAGE_BYTES : undefined;
    for (let at = 0; at < memory.length; at += PAGE_BYTES) {
      if (!random.chance(share)) continue;
      if (at === torn) {
        this.tear(memory, at / PAGE_BYTES);
        continue;
      }
      const isWhole = random.chance(0.5);
      for (let sector = at; sector < at + PAGE_BYTES; sector += SECTOR_BYTES) {
        if (isWhole || random.chance(0.5)) memory.copy(this.disk, sector, sector, sector + SECTOR_BYTES);
      }
    }
    return Buffer.from(this.disk);
  }

  /** A page that went to the disk while it was written holds words from before and from after. */
  private tear(memory: Buffer, page: number): void {
    for (let word = page * PAGE_BYTES; word < page * PAGE_BYTES + 128; word += 8) {
      if (this.random.chance(0.5)) memory.copy(this.disk, word, word, word + 8);
    }
  }
}

/** ClickHouse, as far as deduplication goes: what each token stored, and how often each block is in the table. */
class Table {
  readonly times = new Map<string, number>();
  private readonly tokens = new Map<string, Set<string>>();

  /** @returns blocks that are not in the table, though the insert was answered as done */
  insert({ token }: Insert, contents: readonly string[]): string[] {
    const known = this.tokens.get(token);
    if (known !== undefined) return contents.filter((content) => !known.has(content));
    this.tokens.set(token, new Set(contents));
    for (const content of contents) this.times.set(content, (this.times.get(content) ?? 0) + 1);
    return [];
  }
}

/** One ring over many lives, beside what its senders were told and what the table holds. */
class World {
  readonly acknowledged = new Set<string>();
  readonly table = new Table();
  private readonly refusedForGood = new Set<string>();
  private readonly dropped: string[] = [];
  private readonly random: Random;
  private readonly mode: SyncMode;
  private readonly bytes: number;
  private readonly written = new Set<string>();
  private underWay: { insert: Insert; isPrepared: boolean }[] = [];
  private path: string;
  private lives = 0;
  private ring: Ring;
  private queue: RingQueue;

  constructor(random: Random, mode: SyncMode, bytes: number) {
    this.random = random;
    this.mode = mode;
    this.bytes = bytes;
    machine = new Machine(random, bytes);
    this.path = this.nextPath();
    this.ring = Ring.open(this.path, bytes);
    this.queue = new RingQueue(this.ring, servers, mode, async () => {});
  }

  /** New spans that the table took for ones it had, as their insert bore the token of another. */
  get swallowed(): string[] {
    // A dead letter may come back, as nobody waits until its state is on the disk.
    return this.dropped.filter((content) => !this.refusedForGood.has(content));
  }

  get lost(): string[] {
    return [...this.acknowledged].filter((content) => !this.table.times.has(content) && !this.refusedForGood.has(content));
  }

  get storedTwice(): string[] {
    return [...this.table.times].filter(([, times]) => times > 1).map(([content]) => content);
  }

  push(): void {
    const length = this.random.between(16, this.random.chance(0.2) ? this.bytes >> 2 : 1500);
    // Nothing that a sector of another block could complete.
    const content = `${this.lives}/${this.written.size}:`.repeat(length >> 2).slice(0, length);
    this.written.add(content);
    const { lives } = this;
    this.queue.push({ frame: Buffer.from(content), rows: 1 }).then(
      () => {
        if (lives === this.lives) this.acknowledged.add(content);
      },
      () => {},
    );
  }

  take(): void {
    const insert = this.queue.take(this.random.between(1, 12), 1e9);
    if (insert !== undefined) this.prepare(insert);
  }

  /** An insert that may be sent is: it arrives or not, and its answer does or not. Now and then it is refused. */
  send(): void {
    const ready = this.underWay.filter(({ isPrepared }) => isPrepared);
    if (ready.length === 0) return;
    const entry = this.random.pick(ready);
    const { insert } = entry;
    if (this.random.chance(0.1)) return;
    if (this.random.chance(0.1) && !this.wasSent(insert)) {
      this.underWay = this.underWay.filter((other) => other !== entry);
      if (insert.blocks.length > 1) for (const half of this.queue.split(insert)) this.prepare(half);
      else {
        this.refusedForGood.add(contentsOf(insert)[0]);
        void this.queue.reject(insert, { error: new InsertError('117', 'refused'), server: SERVER });
      }
      return;
    }
    const contents = contentsOf(insert);
    for (const content of contents) if (!this.written.has(content)) throw new Error('a block that nobody wrote');
    this.dropped.push(...this.table.insert(insert, contents));
    if (this.random.chance(0.2)) return;
    this.underWay = this.underWay.filter((other) => other !== entry);
    this.queue.confirm(insert);
  }

  async turn(): Promise<void> {
    await nextTick();
  }

  tick(): void {
    vi.advanceTimersByTime(1000);
  }

  writeBack(): void {
    machine.writeBack(this.memory());
  }

  /** The process is killed: the file is as it left it, the disk behind it is not. */
  kill(): void {
    this.end();
    this.start();
  }

  losePower(): void {
    const image = machine.losePower(this.memory());
    this.end();
    rmSync(this.path);
    this.path = this.nextPath();
    writeFileSync(this.path, image);
    this.start();
  }

  /** Everything that is still in the ring goes to the table. */
  async drain(): Promise<void> {
    for (;;) {
      for (const { insert } of this.underWay) {
        this.dropped.push(...this.table.insert(insert, contentsOf(insert)));
        this.queue.confirm(insert);
      }
      this.underWay = [];
      const insert = this.queue.take(1e9, 1e9);
      if (insert === undefined) break;
      this.underWay.push({ insert, isPrepared: true });
    }
    this.end();
    rmSync(this.path);
    await nextTick();
  }

  private prepare(insert: Insert): void {
    const entry = { insert, isPrepared: false };
    this.underWay.push(entry);
    this.queue.prepare(insert, SERVER).then(
      () => (entry.isPrepared = true),
      () => {},
    );
  }

  private wasSent(insert: Insert): boolean {
    return contentsOf(insert).some((content) => this.table.times.has(content));
  }

  private memory(): Buffer {
    return readFileSync(this.path);
  }

  private end(): void {
    // A life that has ended does nothing more: its syncs stay open, its timer is gone.
    vi.clearAllTimers();
    machine.endLife();
    this.underWay = [];
    this.ring.close();
  }

  private start(): void {
    this.lives++;
    this.ring = Ring.open(this.path, this.bytes);
    this.queue = new RingQueue(this.ring, servers, this.mode, async () => {});
  }

  private nextPath(): string {
    return join(dir, `ring-${this.lives}-${this.random.hex(2)}`);
  }
}

function contentsOf({ blocks }: Insert): string[] {
  return blocks.map(({ frame }) => frame.toString('latin1'));
}

interface Course {
  readonly mode: SyncMode;
  readonly seed: number;
  /** Of 1: how often a sync ends with an error. */
  readonly failures?: number;
  /** Of 1: how often a life ends by a kill instead of a loss of power. */
  readonly kills: number;
}

async function live({ mode, seed, failures = 0, kills }: Course): Promise<World> {
  const random = new Random(seed);
  const world = new World(random, mode, random.pick([24_576, 49_152, 98_304]));
  for (let step = 0; step < 900; step++) {
    const dice = random.between(0, 999);
    if (dice < 250) world.push();
    else if (dice < 400) world.take();
    else if (dice < 650) world.send();
    else if (dice < 900) machine.endSync(random.chance(failures) ? new Error('EIO') : undefined);
    else if (dice < 940) world.writeBack();
    else if (dice < 980) world.tick();
    else if (random.chance(kills)) world.kill();
    else world.losePower();
    if (random.chance(0.7)) await world.turn();
  }
  await world.drain();
  return world;
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  vi.spyOn(MappedFile.prototype, 'sync').mockImplementation(function sync(this: MappedFile, from, to) {
    return machine.sync(this, from, to);
  });
  vi.spyOn(MappedFile.prototype, 'syncNow').mockImplementation(function syncNow(this: MappedFile, from, to) {
    machine.syncNow(this, from, to);
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const firstSeed = Number(process.env.SEED ?? 1);
const seeds = Array.from({ length: Number(process.env.SEEDS ?? 40) }, (_, i) => firstSeed + i);

describe('power that goes at any moment', () => {
  test.each(seeds)('with DISK_BUFFER_SYNC=always costs nothing acknowledged, and stores nothing twice (SEED=%i)', async (seed) => {
    const { acknowledged, lost, storedTwice, swallowed } = await live({ mode: 'always', seed, kills: 0.3 });
    expect(swallowed).toEqual([]);
    expect(lost).toEqual([]);
    expect(storedTwice).toEqual([]);
    expect(acknowledged.size).toBeGreaterThan(10);
  });

  test.each(seeds)('on a disk that fails now and then costs nothing acknowledged either (SEED=%i)', async (seed) => {
    const { lost, swallowed } = await live({ mode: 'always', seed, kills: 0.3, failures: 0.1 });
    expect(swallowed).toEqual([]);
    expect(lost).toEqual([]);
  });

  test.each(seeds)(
    'with interval or none leaves a ring that opens, with nothing that was not written, and no new spans taken for old ones (SEED=%i)',
    async (seed) => {
      for (const mode of ['interval', 'none'] as const) {
        const { swallowed, table } = await live({ mode, seed, kills: 0.3 });
        expect(swallowed).toEqual([]);
        expect(table.times.size).toBeGreaterThan(10);
      }
    },
  );
});

describe('a kill at any moment', () => {
  test.each(seeds)('costs nothing acknowledged, whatever DISK_BUFFER_SYNC says (SEED=%i)', async (seed) => {
    for (const mode of ['interval', 'none'] as const) {
      const { lost, storedTwice, swallowed } = await live({ mode, seed, kills: 1 });
      expect(swallowed).toEqual([]);
      expect(lost).toEqual([]);
      expect(storedTwice).toEqual([]);
    }
  });
});
