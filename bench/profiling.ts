import { parseArgs } from 'node:util';
import { startClickHouse } from '../test/support/clickhouse.ts';
import { startCollector, type Collector } from '../test/support/collector.ts';
import { runLoad } from './collector.ts';
import { cpuSeconds } from './process-usage.ts';
import { median } from './statistics.ts';

/*
 * What profiles cost the collector they are taken of: spans a second and processor time a span, each a ratio to the same
 * with ENABLE_PROFILING=false. The cases take turns, so that what else the machine does falls on all of them.
 * `npm run build && node bench/profiling.ts --rounds 5 --seconds 5`
 */

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '5' } } });
const seconds = Number(values.seconds);

const OFF = 'ENABLE_PROFILING=false';
/** The path of each profile; undefined where none is taken. */
const CASES = new Map<string, string | undefined>([
  [OFF, undefined],
  ['on, no profile', undefined],
  ['profile at 99 Hz', `profile?seconds=${seconds}`],
  ['profile at 1000 Hz', `profile?frequency=1000&seconds=${seconds}`],
  ['heap', `heap?seconds=${seconds}`],
  ['allocs', `allocs?seconds=${seconds}`],
]);

await using clickhouse = await startClickHouse({ systemLogs: false });
await using off = await startCollector({ clickhouse, env: { ENABLE_PROFILING: 'false', LOG_LEVEL: 'error' } });
await using on = await startCollector({ clickhouse, env: { LOG_LEVEL: 'error' } });

interface Run {
  readonly spansPerSecond: number;
  readonly cpuMicrosPerSpan: number;
}

async function run(collector: Collector, profile: string | undefined): Promise<Run> {
  const before = cpuSeconds(collector.pid);
  const profiling = profile === undefined ? undefined : fetch(`${collector.adminUrl}/debug/pprof/${profile}`).then((answer) => answer.arrayBuffer());
  const load = await runLoad({ port: Number(new URL(collector.url).port), encoding: 'json', spansPerRequest: 420, connections: 16, seconds });
  await profiling;
  return { spansPerSecond: load.acknowledgedSpans / load.seconds, cpuMicrosPerSpan: ((cpuSeconds(collector.pid) - before) * 1e6) / load.acknowledgedSpans };
}

// Code that has not run yet is slow.
for (const collector of [off, on]) await run(collector, undefined);
const runs = new Map<string, Run[]>(Array.from(CASES.keys(), (name) => [name, []]));
for (let round = 0; round < Number(values.rounds); round++) {
  for (const [name, profile] of CASES) runs.get(name)!.push(await run(name === OFF ? off : on, profile));
}

function middle(name: string): Run {
  const all = runs.get(name)!;
  return { spansPerSecond: median(all.map((one) => one.spansPerSecond)), cpuMicrosPerSpan: median(all.map((one) => one.cpuMicrosPerSpan)) };
}

const baseline = middle(OFF);
console.table(
  Object.fromEntries(
    Array.from(CASES.keys(), (name) => {
      const { spansPerSecond, cpuMicrosPerSpan } = middle(name);
      const ratios = { 'of the spans': (spansPerSecond / baseline.spansPerSecond).toFixed(2), 'of the processor time': (cpuMicrosPerSpan / baseline.cpuMicrosPerSpan).toFixed(2) };
      return [name, { 'spans a second': Math.round(spansPerSecond), 'CPU µs a span': cpuMicrosPerSpan.toFixed(2), ...ratios }];
    }),
  ),
);
