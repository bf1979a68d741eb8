import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { freePorts } from '../test/support/servers/free-ports.ts';
import { DIST, runLoad, startCollector } from './collector.ts';
import type { LoadOptions } from './load.ts';
import { cpuSecondsByThread, memory } from './process-usage.ts';
import { spread } from './statistics.ts';

const usage = `Measures how many spans a second one process acknowledges with one and more ingest threads, and the CPU time of a span by
thread. ClickHouse is down, and the disk buffer has room for all spans, so that the collector shares the cores only with the load
generator. The numbers of threads take turns. Run npm run build first.

npx node bench/ingest-threads.ts [options]

  --threads LIST   numbers of ingest threads (default 1,2)
  --runs N         runs of each; the figures are medians (default 3)
  --seconds N      seconds of load in a run, after as many to warm up (default 5)
  --before DIST    also the dist/ of another version
`;
const values = commandLine(usage, {
  threads: { type: 'string', default: '1,2' },
  runs: { type: 'string', default: '3' },
  seconds: { type: 'string', default: '5' },
  before: { type: 'string' },
});
const runs = positive('--runs', values.runs);
const seconds = positive('--seconds', values.seconds);
/** Warm-up, load, start and stop of a run. */
const RUN_SECONDS = 2 * seconds + 3;

const LOADS: Readonly<Record<string, Omit<LoadOptions, 'port' | 'seconds'>>> = {
  'Protobuf, 11 spans': { encoding: 'protobuf', spansPerRequest: 11, connections: 512 },
  'JSON, 512 spans': { encoding: 'json', spansPerRequest: 512, connections: 64 },
};

interface Subject {
  readonly name: string;
  readonly dist: string;
  readonly env: Readonly<Record<string, string>>;
}

const SUBJECTS: readonly Subject[] = [
  ...(values.before === undefined ? [] : [{ name: 'before', dist: values.before, env: {} }]),
  ...values.threads
    .split(',')
    .map((threads) => ({ name: `${threads} threads`, dist: DIST, env: { INGEST_THREADS: threads, INGEST_THREADS_MIN: threads } })),
];

interface Result {
  readonly spansPerSecond: number;
  /** CPU time of a span, in µs. */
  readonly main: number;
  readonly ingest: number;
  readonly others: number;
  readonly generator: number;
  readonly anonymousMb: number;
}

async function measure(load: Omit<LoadOptions, 'port' | 'seconds'>, { dist, env }: Subject): Promise<Result> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-ingest-threads-'));
  const [closed] = await freePorts(1);
  const settings = {
    ENABLE_DISK_BUFFER: 'true',
    DISK_BUFFER_DIR: dir,
    DISK_BUFFER_MAX_SIZE_MB: '2048',
    SHUTDOWN_TIMEOUT_MS: '100',
    ...env,
  };
  try {
    await using collector = await startCollector(`http://127.0.0.1:${closed}`, settings, dist);
    await runLoad({ ...load, port: collector.port, seconds }, 'raw-load.ts');
    const before = cpuSecondsByThread(collector.pid);
    const {
      acknowledgedSpans,
      seconds: took,
      refused,
      cpuSeconds,
    } = await runLoad({ ...load, port: collector.port, seconds }, 'raw-load.ts');
    if (refused > 0) throw new Error(`${refused} requests were refused.`);
    const after = cpuSecondsByThread(collector.pid);
    const used = (matches: (name: string) => boolean) =>
      ([...after].filter(([name]) => matches(name)).reduce((sum, [name, now]) => sum + now - (before.get(name) ?? 0), 0) * 1e6) /
      acknowledgedSpans;
    return {
      spansPerSecond: acknowledgedSpans / took,
      main: used((name) => name.includes('MainThread')),
      ingest: used((name) => name.startsWith('ingest-')),
      others: used((name) => !name.includes('MainThread') && !name.startsWith('ingest-')),
      generator: (cpuSeconds * 1e6) / acknowledgedSpans,
      anonymousMb: memory(collector.pid).anonymousMb,
    };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const steps = Object.keys(LOADS).length * SUBJECTS.length * runs;
using progress = startProgress(`Compares ${SUBJECTS.map(({ name }) => name).join(', ')}: ${runs} runs of ${seconds} s with each load.`, {
  steps,
  seconds: steps * RUN_SECONDS,
});
const table: Record<string, Record<string, string>> = {};
for (const [load, options] of Object.entries(LOADS)) {
  const results = new Map<string, Result[]>(SUBJECTS.map(({ name }) => [name, []]));
  for (let run = 1; run <= runs; run++) {
    for (const subject of SUBJECTS) {
      progress.step(`${load}, run ${run} of ${runs}: ${subject.name}`, RUN_SECONDS);
      results.get(subject.name)!.push(await measure(options, subject));
    }
  }
  const medianOf = (name: string, figure: keyof Result) => spread(results.get(name)!.map((result) => result[figure]));
  for (const { name } of SUBJECTS) {
    const rate = medianOf(name, 'spansPerSecond');
    table[`${load}, ${name}`] = {
      'spans/s': `${Math.round(rate.median / 1000)}k (${Math.round(rate.min / 1000)}–${Math.round(rate.max / 1000)}k)`,
      '× the first': (rate.median / medianOf(SUBJECTS[0].name, 'spansPerSecond').median).toFixed(2),
      ...Object.fromEntries(
        (['main', 'ingest', 'others', 'generator'] as const).map((figure) => [`${figure}, µs`, medianOf(name, figure).median.toFixed(2)]),
      ),
      'anonymous MB': medianOf(name, 'anonymousMb').median.toFixed(0),
    };
  }
}
progress.clear();
console.table(table);
