import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { startClickHouse } from '../test/support/servers/clickhouse.ts';
import { runLoad, startCollector } from './collector.ts';
import type { LoadOptions } from './load.ts';
import { cpuSecondsByThread } from './process-usage.ts';
import { spread } from './statistics.ts';

/*
 * The busiest thread limits the throughput of a process that has more cores than this machine: the table shows the spans a second at which
 * the main thread is never idle, and how many ingest threads the main thread has time for.
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

type Usage = Readonly<Record<string, number>>;

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
  const before = cpuSecondsByThread(collector.pid);
  const { acknowledgedSpans } = await runLoad({ ...load, port: collector.port, seconds }, 'raw-load.ts');
  await stored(warmUp.acknowledgedSpans + acknowledgedSpans);
  const after = cpuSecondsByThread(collector.pid);
  rmSync(dir, { recursive: true });
  const us = (matches: (name: string) => boolean) =>
    ([...after].filter(([name]) => matches(name)).reduce((sum, [name, used]) => sum + used - (before.get(name) ?? 0), 0) * 1e6) /
    acknowledgedSpans;
  return Object.fromEntries(Object.entries(THREADS).map(([group, pattern]) => [group, us((name) => pattern.test(name))]));
}

const steps = Object.keys(LOADS).length * Object.keys(SETTINGS).length * runs;
using progress = startProgress('Measures the CPU time of each thread, by load and setting.', { steps, seconds: steps * RUN_SECONDS });
const table: Record<string, Record<string, string>> = {};
for (const [load, options] of Object.entries(LOADS)) {
  const usages: Record<string, Usage[]> = {};
  for (let run = 1; run <= runs; run++) {
    for (const [setting, env] of Object.entries(SETTINGS)) {
      progress.step(`${load}, ${setting}: run ${run} of ${runs}`, RUN_SECONDS);
      (usages[setting] ??= []).push(await measure(options, env));
    }
  }
  for (const [setting, found] of Object.entries(usages)) {
    const main = spread(found.map((each) => each.main));
    const ingest = spread(found.map((each) => each.ingest)).median;
    table[`${load}, ${setting}`] = {
      ...Object.fromEntries(
        Object.keys(THREADS).map((group) => [`${group}, µs`, spread(found.map((each) => each[group])).median.toFixed(2)]),
      ),
      'main, least–most': `${main.min.toFixed(2)}–${main.max.toFixed(2)}`,
      'spans/s with a main thread that is never idle': Math.round(1e6 / main.median).toLocaleString('en'),
      'ingest threads it can serve': ingest === 0 ? '–' : (ingest / main.median).toFixed(0),
    };
  }
}
progress.clear();
console.table(table);
