import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build, BUILD_SECONDS } from '../test/support/commands/build.ts';
import { startClickHouse, type TestClickHouse } from '../test/support/servers/clickhouse.ts';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { type BenchCollector, runLoad, startCollector } from './collector.ts';
import { cpuSeconds, memory, type Memory } from './process-usage.ts';
import { median, slope } from './statistics.ts';

/*
 * The collector idle, then under maximum load, with the disk buffer: its memory and throughput every few seconds, and whether memory stays
 * constant.
 */

const usage = `Runs the collector idle, then under full load, with the disk buffer, and prints its memory and throughput over time.

npm run bench:soak -- [options]

  --minutes N          minutes of load (default 10)
  --idle-seconds N     seconds idle before it (default 60)
  --sample-seconds N   seconds between two samples (default 5)
  --spans N            spans per request (default 512)
  --encoding NAME      json, or protobuf (default json)
  --json               one JSON object
`;
const values = commandLine(usage, {
  minutes: { type: 'string', default: '10' },
  'idle-seconds': { type: 'string', default: '60' },
  'sample-seconds': { type: 'string', default: '5' },
  spans: { type: 'string', default: '512' },
  encoding: { type: 'string', default: 'json' },
  json: { type: 'boolean', default: false },
});
const seconds = positive('--minutes', values.minutes) * 60;
const idleSeconds = positive('--idle-seconds', values['idle-seconds']);
const sampleSeconds = positive('--sample-seconds', values['sample-seconds']);
/** The share of samples that does not count: caches fill up, and the heap grows to its size. */
const WARM_UP = 0.25;
const DRAIN_SECONDS = 5;
/** Keeps the disk from filling up: only the collector is measured. */
const TRUNCATE_SECONDS = 60;
/** A smaller increase from the warm-up to the end does not count: garbage collection changes memory by as much. */
const FLAT_PERCENT = 5;

interface Sample extends Memory {
  readonly atSeconds: number;
  /** V8's heap, without buffers. */
  readonly heapMb: number;
  readonly spansPerSecond: number;
}

interface Idle {
  readonly cpuPercent: number;
  readonly rssMbAtStart: number;
  readonly rssMb: number;
  readonly anonymousMb: number;
}

async function idle(pid: number, forSeconds: number): Promise<Idle> {
  const rssMbAtStart = memory(pid).rssMb;
  const before = cpuSeconds(pid);
  await sleep(forSeconds * 1000);
  const { rssMb, anonymousMb } = memory(pid);
  return { cpuPercent: ((cpuSeconds(pid) - before) / forSeconds) * 100, rssMbAtStart, rssMb, anonymousMb };
}

/** Takes samples until `done`. @throws its error */
async function sample(collector: BenchCollector, clickhouse: TestClickHouse, done: Promise<unknown>): Promise<Sample[]> {
  const samples: Sample[] = [];
  const begin = performance.now();
  let last = { at: begin, spans: await acceptedSpans(collector), truncatedAt: begin };
  const pause = async () => Promise.race([done.then(() => false), sleep(sampleSeconds * 1000, true)]);
  while (await pause()) {
    const at = performance.now();
    const spans = await acceptedSpans(collector);
    const heapMb = ((await collector.metric('nodejs_heap_size_used_bytes')) ?? Number.NaN) / 1024 ** 2;
    const { rssMb } = memory(collector.pid);
    const spansPerSecond = ((spans - last.spans) * 1000) / (at - last.at);
    progress.tick(`${Math.round(spansPerSecond).toLocaleString('en')} spans/s, RSS ${Math.round(rssMb)} MB`);
    samples.push({ atSeconds: (at - begin) / 1000, ...memory(collector.pid), heapMb, spansPerSecond });
    const truncate = at - last.truncatedAt > TRUNCATE_SECONDS * 1000;
    if (truncate) await clickhouse.command('TRUNCATE TABLE otel_traces');
    last = { at, spans, truncatedAt: truncate ? at : last.truncatedAt };
  }
  return samples;
}

async function acceptedSpans(collector: BenchCollector): Promise<number> {
  return (await collector.metric('otelcol_receiver_accepted_spans_total')) ?? 0;
}

interface Rise {
  readonly mb: number;
  readonly percent: number;
  readonly percentPerHour: number;
}

/** The increase of the regression line of the samples, after the warm-up. */
function rise(samples: readonly Sample[], figure: keyof Memory): Rise {
  const steady = samples.slice(Math.floor(samples.length * WARM_UP));
  const hours = (steady[steady.length - 1].atSeconds - steady[0].atSeconds) / 3600;
  const mb = slope(steady.map((each) => [each.atSeconds / 3600, each[figure]])) * hours;
  const percent = (mb / median(steady.map((each) => each[figure]))) * 100;
  return { mb, percent, percentPerHour: percent / hours };
}

const dir = mkdtempSync(join(tmpdir(), 'bench-soak-'));
using progress = startProgress('Builds the collector, watches it idle, then under full load.', {
  steps: 4,
  seconds: BUILD_SECONDS + idleSeconds + seconds + DRAIN_SECONDS,
});
await build(progress);
{
  await using clickhouse = await startClickHouse({ systemLogs: false });
  await using collector = await startCollector(clickhouse.url, { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir });
  progress.step('idle', idleSeconds);
  const quiet = await idle(collector.pid, idleSeconds);
  progress.step('full load', seconds);
  const load = runLoad({
    port: collector.port,
    encoding: values.encoding === 'protobuf' ? 'protobuf' : 'json',
    spansPerRequest: Number(values.spans),
    connections: 32,
    seconds,
  });
  const samples = await sample(collector, clickhouse, load);
  const { acknowledgedSpans, refused } = await load;
  progress.step('waiting until all is stored', DRAIN_SECONDS);
  await collector.drained();
  progress.clear();
  const rises = { rssMb: rise(samples, 'rssMb'), anonymousMb: rise(samples, 'anonymousMb'), fileMb: rise(samples, 'fileMb') };

  if (values.json) {
    process.stdout.write(`${JSON.stringify({ idle: quiet, samples, acknowledgedSpans, refused, rises })}\n`);
  } else {
    console.log(
      `Idle for ${idleSeconds} s: ${quiet.cpuPercent.toFixed(2)} % of a core, ` +
        `RSS ${quiet.rssMbAtStart.toFixed(0)} → ${quiet.rssMb.toFixed(0)} MB, ${quiet.anonymousMb.toFixed(0)} MB of it anonymous`,
    );
    // About twenty rows for any duration.
    const every = Math.ceil(samples.length / 20);
    console.table(
      samples
        .filter((_, index) => index % every === 0)
        .map((each) => ({
          seconds: Math.round(each.atSeconds),
          'RSS MB': Math.round(each.rssMb),
          'anonymous MB': Math.round(each.anonymousMb),
          'file MB': Math.round(each.fileMb),
          'heap MB': Math.round(each.heapMb),
          'spans/s': Math.round(each.spansPerSecond),
        })),
    );
    console.log(`${acknowledgedSpans} spans acknowledged, ${refused} requests refused`);
    for (const [figure, { mb, percent, percentPerHour }] of Object.entries(rises)) {
      const verdict = percent < FLAT_PERCENT ? 'flat' : 'RISING';
      console.log(
        `${figure.padEnd(12)} ${verdict}: ${mb.toFixed(1)} MB (${percent.toFixed(1)} %) since the first quarter, ` +
          `${percentPerHour.toFixed(0)} % an hour`,
      );
    }
  }
}
rmSync(dir, { recursive: true });
