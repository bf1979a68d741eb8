import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { State } from '../src/disk-buffer/record.ts';
import { RingQueue } from '../src/disk-buffer/ring-queue.ts';
import { Ring } from '../src/disk-buffer/ring.ts';
import { ServerNames } from '../src/disk-buffer/server-names.ts';
import { Random } from '../test/support/generators/random.ts';
import { median } from './statistics.ts';

/*
 * The cost of the disk buffer: appending a block, compared with a copy and checksum of the same bytes (the minimum) and with a write to a
 * file of the same file system; recovering a full ring; and the wait of a block with DISK_BUFFER_SYNC=always. The ring and the baselines
 * alternate, so that noise affects all of them.
 */

const KB = 1024;
const MB = 1024 * KB;
const GB = 1024 * MB;
export const BLOCK_BYTES = { '4KB': 4 * KB, '64KB': 64 * KB, '1MB': MB } as const;
type BlockSize = keyof typeof BLOCK_BYTES;
type Figures = Readonly<Record<BlockSize, number>>;

const FILLING_RING_BYTES = 512 * MB;
const RECOVERY_BLOCK_BYTES = 64 * KB;

interface RingFigures {
  /** µs per block, if each is inserted before the next one: the ring stays at the start of its file. */
  readonly appendUs: Figures;
  /** µs per block while nothing is inserted: every page is written for the first time. */
  readonly appendFillingUs: Figures;
  /** µs of copying a block's bytes in memory, and of their checksum. */
  readonly copyAndChecksumUs: Figures;
  /** µs of one write call with the same bytes. */
  readonly writeUs: Figures;
  /** ms to open a ring of 1 GB whose file is in the page cache. */
  readonly recoveryMsFullGb: number;
  readonly recoveryMsEmptyGb: number;
  /** ms until a block of 4 KB is on the disk: a single one, and one of 32 at the same time. */
  readonly syncAlwaysMs: { readonly alone: number; readonly of32: number };
}

async function measureRing(): Promise<RingFigures> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-ring-'));
  try {
    const sizes = Object.entries(BLOCK_BYTES).map(([name, bytes]) => [name, measureAppend(dir, bytes)] as const);
    const figures = (pick: (costs: AppendCosts) => number) =>
      Object.fromEntries(sizes.map(([name, costs]) => [name, pick(costs)])) as Figures;
    return {
      appendUs: figures(({ hot }) => hot),
      appendFillingUs: figures(({ filling }) => filling),
      copyAndChecksumUs: figures(({ copy }) => copy),
      writeUs: figures(({ write }) => write),
      ...measureRecovery(dir),
      syncAlwaysMs: { alone: await measureSync(dir, 1), of32: await measureSync(dir, 32) },
    };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Medians in µs per block. */
interface AppendCosts {
  readonly hot: number;
  readonly filling: number;
  readonly copy: number;
  readonly write: number;
}

function measureAppend(dir: string, blockBytes: number): AppendCosts {
  const block = new Random(1).bytes(blockBytes);
  const target = Buffer.alloc(blockBytes);
  const hot = Ring.open(join(dir, 'hot'), 64 * MB);
  const filling = Ring.open(join(dir, 'filling'), FILLING_RING_BYTES);
  const file = openSync(join(dir, 'file'), 'w');
  const turns = Math.min(3000, Math.floor((FILLING_RING_BYTES * 0.9) / blockBytes));
  const costs = { hot: [] as number[], filling: [] as number[], copy: [] as number[], write: [] as number[] };
  let checksum = 0;
  for (let turn = 0; turn < turns; turn++) {
    costs.hot.push(us(() => hot.append(block, 100, 0)));
    hot.complete(hot.take(1, 1)!, State.inserted);
    hot.saveTail();
    hot.confirm();
    costs.filling.push(us(() => filling.append(block, 100, 0)));
    costs.copy.push(
      us(() => {
        block.copy(target);
        checksum ^= crc32(block);
      }),
    );
    costs.write.push(us(() => writeSync(file, block)));
  }
  if (Number.isNaN(checksum)) throw new Error('never: this use of the checksum keeps V8 from leaving it out');
  closeSync(file);
  hot.close();
  filling.close();
  for (const name of ['hot', 'filling', 'file']) rmSync(join(dir, name));
  // The first rounds warm up the compiler.
  const [hotUs, fillingUs, copyUs, writeUs] = [costs.hot, costs.filling, costs.copy, costs.write].map((values) =>
    median(values.slice(values.length >> 3)),
  );
  return { hot: hotUs, filling: fillingUs, copy: copyUs, write: writeUs };
}

/** The time of a call in µs. */
function us(run: () => unknown): number {
  const startedAt = performance.now();
  run();
  return (performance.now() - startedAt) * 1000;
}

function measureRecovery(dir: string): Pick<RingFigures, 'recoveryMsFullGb' | 'recoveryMsEmptyGb'> {
  const path = join(dir, 'recovery');
  const ring = Ring.open(path, GB);
  ring.close();
  const open = () => median(Array.from({ length: 3 }, () => us(() => Ring.open(path, GB).close()) / 1000));
  const recoveryMsEmptyGb = open();
  const full = Ring.open(path, GB);
  const block = new Random(2).bytes(RECOVERY_BLOCK_BYTES);
  while (full.append(block, 100, 0) !== undefined);
  full.close();
  const recoveryMsFullGb = open();
  rmSync(path);
  return { recoveryMsFullGb, recoveryMsEmptyGb };
}

/** Median ms of a push, with `together` of them at the same time. */
async function measureSync(dir: string, together: number): Promise<number> {
  const path = join(dir, 'sync');
  const queue = new RingQueue(Ring.open(path, 256 * MB), new ServerNames(join(dir, 'servers')), 'always', async () => {});
  const frame = new Random(3).bytes(4 * KB);
  const waits: number[] = [];
  for (let turn = 0; turn < 200; turn++) {
    await Promise.all(
      Array.from({ length: together }, async () => {
        const startedAt = performance.now();
        await queue.push({ frame, rows: 100 });
        waits.push(performance.now() - startedAt);
      }),
    );
  }
  await queue.close();
  rmSync(path);
  return median(waits);
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

if (import.meta.main) {
  const figures = await measureRing();
  console.log('\nDisk buffer: µs a block, median\n');
  console.table(
    Object.fromEntries(
      (Object.keys(BLOCK_BYTES) as BlockSize[]).map((size) => [
        size,
        {
          'append, drained': round(figures.appendUs[size]),
          'append, filling': round(figures.appendFillingUs[size]),
          'copy + crc32 alone': round(figures.copyAndChecksumUs[size]),
          'fs.writeSync': round(figures.writeUs[size]),
        },
      ]),
    ),
  );
  console.log(
    `\nOpening a ring of 1 GB: full ${Math.round(figures.recoveryMsFullGb)} ms, empty ${Math.round(figures.recoveryMsEmptyGb)} ms`,
  );
  const { alone, of32 } = figures.syncAlwaysMs;
  console.log(`DISK_BUFFER_SYNC=always, 4 KB: ${round(alone)} ms alone, ${round(of32)} ms with 32 at a time`);
}
