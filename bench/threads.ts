import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { startClickHouse } from '../test/support/servers/clickhouse.ts';
import { runLoad, startCollector } from './collector.ts';
import type { LoadOptions } from './load.ts';
import { MAIN_THREAD_SECONDS, type MainThreadFigures, measureMainThread } from './main-thread.ts';
import { cpuSecondsByThread } from './process-usage.ts';
import { spread } from './statistics.ts';

/*
 * The busiest thread limits the throughput of a process that has more cores than this machine: the table shows the spans a second at
 * which the main thread is never idle. Beside two ingest threads it is nearly idle, and takes more time for a span than on a machine that
 * has more of them. So it is also measured while it is busy (main-thread.ts), and that is how many ingest threads it has time for.
 */

const usage = `Measures the CPU time of a span by thread, with bodies parsed by the main thread, by worker threads and by ingest threads.
With the disk buffer. Run npm run build first.

npx node bench/threads.ts [options]

  --runs N      runs of each load and setting; the figures are medians (default 3)
  --seconds N   seconds of load in a run, after twice as many to warm up (default 5)
`;
const values = commandLine(usage, { runs: { type: 'string', default: '3' }, seconds: { type: 'string', default: '5' } });
const runs = positive('--runs', values.runs);
const seconds = positive('--seconds', values.seconds);
/** Warm-up and load of a run, the start of ClickHouse and the collector, and the time until all spans are stored. */
const RUN_SECONDS = 3 * seconds + 8;

const LOADS: Readonly<Record<string, Omit<LoadOptions, 'port' | 'seconds'>>> = {
  'JSON, 512 spans': { encoding: 'json', spansPerRequest: 512, connections: 32 },
  'Protobuf, 517 spans': { encoding: 'protobuf', spansPerRequest: 517, connections: 32 },
  'Protobuf, 11 spans': { encoding: 'protobuf', spansPerRequest: 11, connections: 128 },
};
const SETTINGS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'as it comes': {},
  'TRANSCODE_INLINE_KB=64': { TRANSCODE_INLINE_KB: '64' },
  'INGEST_THREADS=2': { INGEST_THREADS: '2', INGEST_THREADS_MIN: '2' },
};

/** The threads of a Node process, by their names in Linux. */
const THREADS: Readonly<Record<string, RegExp>> = {
  main: /MainThread/,
  ingest: /^ingest-/,
  transcoder: /^transcoder|WorkerThread/,
  V8: /V8Worker|DelayedTaskSche/,
  libuv: /libuv/,
};

interface Usage {
  /** CPU time of a span, in µs, by thread. */
  readonly us: Readonly<Record<string, number>>;
  readonly spansPerBlock: number;
}

async function measure(load: Omit<LoadOptions, 'port' | 'seconds'>, settings: Readonly<Record<string, string>>): Promise<Usage> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-threads-'));
  await using clickhouse = await startClickHouse({ systemLogs: false });
  await using collector = await startCollector(clickhouse.url, {
    INGEST_THREADS: '1',
    ENABLE_DISK_BUFFER: 'true',
    DISK_BUFFER_DIR: dir,
    ...settings,
  });
  const stored = async (spans: number) => {
    // Counts in ClickHouse: reading the collector's metrics would cost its main thread some ms.
    while (Number((await clickhouse.query<{ rows: string }>('SELECT count() AS rows FROM otel_traces'))[0].rows) < spans) await sleep(200);
  };
  const warmUp = await runLoad({ ...load, port: collector.port, seconds: 2 * seconds }, 'raw-load.ts');
  await stored(warmUp.acknowledgedSpans);
  const blocks = () => collector.metric('hive_collector_block_bytes_count');
  const blocksBefore = (await blocks())!;
  const before = cpuSecondsByThread(collector.pid);
  const { acknowledgedSpans } = await runLoad({ ...load, port: collector.port, seconds }, 'raw-load.ts');
  await stored(warmUp.acknowledgedSpans + acknowledgedSpans);
  const after = cpuSecondsByThread(collector.pid);
  const spansPerBlock = acknowledgedSpans / ((await blocks())! - blocksBefore);
  rmSync(dir, { recursive: true });
  const usOf = (matches: (name: string) => boolean) =>
    ([...after].filter(([name]) => matches(name)).reduce((sum, [name, used]) => sum + used - (before.get(name) ?? 0), 0) * 1e6) /
    acknowledgedSpans;
  const us = Object.fromEntries(Object.entries(THREADS).map(([group, pattern]) => [group, usOf((name) => pattern.test(name))]));
  return { us, spansPerBlock };
}

const BUSY_RUN_SECONDS = MAIN_THREAD_SECONDS + 2 * seconds;
const steps = Object.keys(LOADS).length * (Object.keys(SETTINGS).length + 1) * runs;
using progress = startProgress('Measures the CPU time of each thread, by load and setting.', {
  steps,
  seconds: steps * Math.max(RUN_SECONDS, BUSY_RUN_SECONDS),
});
const table: Record<string, Record<string, string>> = {};
for (const [load, options] of Object.entries(LOADS)) {
  const usages: Record<string, Usage[]> = {};
  const busy: MainThreadFigures[] = [];
  for (let run = 1; run <= runs; run++) {
    for (const [setting, env] of Object.entries(SETTINGS)) {
      progress.step(`${load}, ${setting}: run ${run} of ${runs}`, RUN_SECONDS);
      (usages[setting] ??= []).push(await measure(options, env));
    }
    progress.step(`${load}, main thread busy: run ${run} of ${runs}`, BUSY_RUN_SECONDS);
    const { spansPerBlock } = usages['INGEST_THREADS=2'].at(-1)!;
    const { encoding, spansPerRequest } = options;
    const requestsPerBlock = Math.max(1, Math.round(spansPerBlock / spansPerRequest));
    busy.push(await measureMainThread(seconds, { encoding, spansPerRequest, requestsPerBlock }));
  }
  for (const [setting, found] of Object.entries(usages)) {
    const main = spread(found.map(({ us }) => us.main));
    const ingest = spread(found.map(({ us }) => us.ingest)).median;
    const medianOf = (figure: (figures: MainThreadFigures) => number) => spread(busy.map(figure)).median;
    const busyMain = medianOf(({ queuedUs, insertedUs }) => queuedUs + insertedUs);
    table[`${load}, ${setting}`] = {
      ...Object.fromEntries(
        Object.keys(THREADS).map((group) => [`${group}, µs`, spread(found.map(({ us }) => us[group])).median.toFixed(2)]),
      ),
      'main, least–most': `${main.min.toFixed(2)}–${main.max.toFixed(2)}`,
      'spans/s with a main thread that is never idle': Math.round(1e6 / main.median).toLocaleString('en'),
      ...(ingest > 0 && {
        'spans per block': spread(found.map((each) => each.spansPerBlock)).median.toFixed(0),
        'main when busy, µs': `${busyMain.toFixed(3)} (queue ${medianOf(({ queuedUs }) => queuedUs).toFixed(3)})`,
        'ingest threads it can serve': (ingest / busyMain).toFixed(0),
      }),
    };
  }
}
progress.clear();
console.table(table);
