import { setTimeout as sleep } from 'node:timers/promises';
import { hostileLoads, startForHostileLoad } from '../test/support/clients/hostile-load.ts';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { startClickHouse } from '../test/support/servers/clickhouse.ts';
import { processMemoryMb } from '../test/support/servers/process-memory.ts';
import { spread } from './statistics.ts';

const usage = `Measures the memory of the idle collector, after the start and after hostile loads, with and without the internals that
release it (NODE_INTERNALS_OFF). They take turns. Run npm run build first.

npx node bench/idle-memory.ts [options]

  --runs N   runs of each; the figures are medians (default 3)
`;
const values = commandLine(usage, { runs: { type: 'string', default: '3' } });
const runs = positive('--runs', values.runs);

const OFF = ['', 'malloc-trim', 'full-collection', 'full-collection,malloc-trim'];
const LOADS = [
  'a million attributes, JSON',
  'a string of 60 MB',
  'half a megabyte of spans, 40 times',
  '1,000 clients that vanish in the middle of a body',
];
const STARTED_MS = 10_000;
/** Longer than IdleMemory waits between two collections. */
const IDLE_MS = 45_000;
/** Of a run with its loads. */
const RUN_SECONDS = 75;

await using clickhouse = await startClickHouse({ systemLogs: false });

/** @returns anonymous memory in MB, after the start and after the loads */
async function measure(off: string): Promise<readonly [started: number, loaded: number]> {
  await using collector = await startForHostileLoad(clickhouse, { NODE_INTERNALS_OFF: off, TRANSCODER_THREADS: '2' });
  await sleep(STARTED_MS);
  const started = processMemoryMb(collector.pid, 'RssAnon');
  for (const name of LOADS) await hostileLoads[name](collector);
  await sleep(IDLE_MS);
  return [started, processMemoryMb(collector.pid, 'RssAnon')];
}

function nameOf(off: string): string {
  return off === '' ? 'with all' : `without ${off}`;
}

const steps = runs * OFF.length;
using progress = startProgress(`Measures ${OFF.length} settings in ${runs} runs of each.`, { steps, seconds: steps * RUN_SECONDS });
const results = new Map(OFF.map((off) => [off, [] as (readonly [number, number])[]]));
for (let run = 1; run <= runs; run++) {
  for (const off of OFF) {
    progress.step(`run ${run} of ${runs}: ${nameOf(off)}`, RUN_SECONDS);
    results.get(off)!.push(await measure(off));
  }
}
progress.clear();

function figure(megabytes: readonly number[]): string {
  const { median, min, max } = spread(megabytes);
  return `${median.toFixed(0)} (${min.toFixed(0)}–${max.toFixed(0)})`;
}
console.log('Anonymous memory of the idle collector, in MB:');
const rows = OFF.map((off) => {
  const found = results.get(off)!;
  return [
    nameOf(off),
    { 'after the start': figure(found.map(([started]) => started)), 'after loads': figure(found.map(([, loaded]) => loaded)) },
  ];
});
console.table(Object.fromEntries(rows));
