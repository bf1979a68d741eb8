import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startClickHouse } from '../test/support/servers/clickhouse.ts';
import type { PushedBlocks } from './baselines/pushing-thread.ts';
import { type BenchCollector, DIST, startCollector } from './collector.ts';
import { mainThreadNs } from './process-usage.ts';

/** Threads that push: together they have as many blocks on their way as a process with many cores. */
const THREADS = 2;
const BLOCKS_AT_ONCE = 8;
const WARM_UP_SECONDS = 2;
/** Room for what a busy main thread takes in this time. */
const RING_MB = 8192;

/** The expected time of measureMainThread, beside its `seconds`. */
export const MAIN_THREAD_SECONDS = 12;

export interface MainThreadFigures {
  /** CPU time of the main thread for a span that ingest threads push, until it is in the disk buffer, in µs. */
  readonly queuedUs: number;
  /** The same for its insert. */
  readonly insertedUs: number;
}

/**
 * Measures what a span costs the main thread while it is busy, as it is on a machine with many cores: there its code is optimized, and a
 * message has several blocks. First ClickHouse is down, and threads push blocks; then they have stopped, and ClickHouse takes what waits.
 */
export async function measureMainThread(
  seconds: number,
  blocks: Pick<PushedBlocks, 'encoding' | 'spansPerRequest' | 'requestsPerBlock'>,
): Promise<MainThreadFigures> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-main-thread-'));
  const pushed: PushedBlocks = { ...blocks, blocksAtOnce: BLOCKS_AT_ONCE, seconds: WARM_UP_SECONDS + seconds };
  try {
    await using clickhouse = await startClickHouse({ systemLogs: false });
    const settings = {
      INGEST_THREADS: String(THREADS),
      INGEST_THREADS_MIN: String(THREADS),
      ENABLE_DISK_BUFFER: 'true',
      DISK_BUFFER_DIR: join(dir, 'ring'),
      DISK_BUFFER_MAX_SIZE_MB: String(RING_MB),
      SHUTDOWN_TIMEOUT_MS: '100',
      PUSHED_BLOCKS: JSON.stringify(pushed),
    };
    await clickhouse.kill();
    await using collector = await startCollector(clickhouse.url, settings, distThatPushes(dir));
    const startedAt = performance.now();
    await sleep(WARM_UP_SECONDS * 1000);
    const queuedUs = await usPerSpan(collector, (WARM_UP_SECONDS + seconds) * 1000 - (performance.now() - startedAt) - 300);
    await sleep(1000);
    await clickhouse.restart();
    while (!((await collector.metric('hive_collector_inserts_total'))! > 0)) await sleep(100);
    await sleep(WARM_UP_SECONDS * 1000);
    return { queuedUs, insertedUs: await usPerSpan(collector, seconds * 1000) };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** dist/, but that ingest threads are baselines/pushing-thread.ts. */
function distThatPushes(dir: string): string {
  const dist = join(dir, 'dist');
  cpSync(DIST, dist, { recursive: true });
  for (const name of ['node_modules', 'package.json']) symlinkSync(join(dirname(DIST), name), join(dir, name));
  writeFileSync(join(dist, 'ingest-thread.js'), `import '${new URL('baselines/pushing-thread.ts', import.meta.url).href}';\n`);
  return dist;
}

/** CPU time of the main thread for each span by which the queue grows or shrinks within `ms`, in µs. */
async function usPerSpan(collector: BenchCollector, ms: number): Promise<number> {
  const sample = async () => ({
    spans: (await collector.metric('hive_collector_queue_spans'))!,
    ns: mainThreadNs(collector.pid),
  });
  const before = await sample();
  await sleep(ms);
  const after = await sample();
  return (after.ns - before.ns) / 1000 / Math.abs(after.spans - before.spans);
}
