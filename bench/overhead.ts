import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { startClickHouse } from '../test/support/servers/clickhouse.ts';
import { startCollector, type Collector, until } from '../test/support/servers/collector.ts';
import { runLoad } from './collector.ts';
import { cpuSeconds } from './process-usage.ts';
import { median } from './statistics.ts';

const usage = `Measures the cost of profiles, metrics, the status page and self-tracing: spans per second and CPU time per span, as ratios
to the same load without them. With the disk buffer, so that senders do not wait for ClickHouse. The cases take turns, so that noise
affects all of them. Run npm run build first.

npx node bench/overhead.ts [options]

  --rounds N    rounds; the figures are medians (default 5)
  --seconds N   seconds of load for each case in a round (default 5)
  --spans N     spans per request (default 420)
  --only LIST   only cases whose names contain one of these texts: '99 Hz,tracing'
`;
const values = commandLine(usage, {
  rounds: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '5' },
  spans: { type: 'string', default: '420' },
  only: { type: 'string', default: '' },
});
const rounds = positive('--rounds', values.rounds);
const seconds = positive('--seconds', values.seconds);

/** Reads from the collector's admin port until `signal` is aborted, or ends earlier. */
type Observer = (adminUrl: string, signal: AbortSignal) => Promise<unknown>;

interface Case {
  readonly name: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly observe?: Observer;
}

const NOTHING: Case = { name: 'nobody looks', env: { ENABLE_PROFILING: 'false' } };
const fetchProfile =
  (profile: string): Observer =>
  async (adminUrl) =>
    (await fetch(`${adminUrl}/debug/pprof/${profile}`)).arrayBuffer();
const traced = (ratio: number) => ({
  ENABLE_SELF_TRACING: 'true',
  OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
  OTEL_TRACES_SAMPLER_ARG: String(ratio),
});

const endpoint = await startEndpoint();
const all: readonly Case[] = [
  { name: 'ENABLE_PROFILING, no profile' },
  { name: 'profile at 99 Hz', observe: fetchProfile(`profile?seconds=${seconds}`) },
  { name: 'profile at 1000 Hz', observe: fetchProfile(`profile?frequency=1000&seconds=${seconds}`) },
  { name: 'heap', observe: fetchProfile(`heap?seconds=${seconds}`) },
  { name: 'allocs', observe: fetchProfile(`allocs?seconds=${seconds}`) },
  { name: 'metrics each second', observe: readMetrics },
  { name: 'status page', observe: async (adminUrl, signal) => (await fetch(`${adminUrl}/status/events`, { signal })).text() },
  { name: 'self-tracing, always_off', env: { ...traced(1), OTEL_TRACES_SAMPLER: 'always_off' } },
  { name: 'self-tracing, 1 %', env: traced(0.01) },
  { name: 'self-tracing, every request', env: traced(1) },
];
const cases = [NOTHING, ...all.filter(({ name }) => values.only.split(',').some((part) => name.includes(part)))];

interface Run {
  readonly spansPerSecond: number;
  readonly cpuMicrosPerSpan: number;
}

/** A run, and the start of its load generator. */
const RUN_SECONDS = seconds + 1;
const steps = (1 + rounds) * cases.length;
using progress = startProgress(`Measures ${cases.length} cases in ${rounds} rounds, after one to warm up.`, {
  steps,
  seconds: steps * RUN_SECONDS,
});
// Inserts and merges of this load need more than the 4 GB of the default. Without memory, ClickHouse refuses inserts, and can abort.
const clickhouse = await startClickHouse({
  systemLogs: false,
  configuration: '<max_server_memory_usage>12000000000</max_server_memory_usage>',
});
const directory = mkdtempSync(join(tmpdir(), 'overhead-'));
/** By their environment variables, as JSON. */
const collectors = new Map<string, Collector>();
for (const { env = {} } of cases) {
  const key = JSON.stringify(env);
  if (collectors.has(key)) continue;
  const diskBuffer = {
    ENABLE_DISK_BUFFER: 'true',
    DISK_BUFFER_DIR: join(directory, String(collectors.size)),
    DISK_BUFFER_MAX_SIZE_MB: '256',
  };
  collectors.set(key, await startCollector({ clickhouse, env: { LOG_LEVEL: 'error', ...diskBuffer, ...env } }));
}

const runs = new Map<string, Run[]>(cases.map(({ name }) => [name, []]));
// The first round does not count: code that has not run yet is slow.
for (let round = 0; round <= rounds; round++) {
  // Each round begins with another case.
  for (const one of [...cases.slice(round % cases.length), ...cases.slice(0, round % cases.length)]) {
    progress.step(`${round === 0 ? 'warm-up' : `round ${round} of ${rounds}`}: ${one.name}`, RUN_SECONDS);
    const found = await run(one);
    if (round > 0) runs.get(one.name)!.push(found);
  }
}
progress.clear();
const baseline = middle(NOTHING);
console.table(Object.fromEntries(cases.map((one) => [one.name, row(middle(one))])));
console.log(
  `${values.spans} spans a request; median of ${rounds} runs of ${seconds} s; load average ${loadavg()[0].toFixed(1)} at the end`,
);
for (const collector of collectors.values()) await collector.kill();
rmSync(directory, { recursive: true });
await clickhouse[Symbol.asyncDispose]();
process.exit();

async function run({ env = {}, observe }: Case): Promise<Run> {
  const collector = collectors.get(JSON.stringify(env))!;
  // Full, it would refuse the spans.
  await until(async () => (await collector.metrics()).get('hive_collector_buffered_spans') === 0, 'the disk buffer is empty', 120_000);
  const done = new AbortController();
  const before = cpuSeconds(collector.pid);
  const observing = observe?.(collector.adminUrl, done.signal).catch(() => {});
  const load = await runLoad({
    port: Number(new URL(collector.url).port),
    encoding: 'json',
    spansPerRequest: Number(values.spans),
    connections: 16,
    seconds,
  });
  done.abort();
  await observing;
  return {
    spansPerSecond: load.acknowledgedSpans / load.seconds,
    cpuMicrosPerSpan: ((cpuSeconds(collector.pid) - before) * 1e6) / load.acknowledgedSpans,
  };
}

async function readMetrics(adminUrl: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await (await fetch(`${adminUrl}/metrics`)).text();
    await sleep(1_000, undefined, { signal });
  }
}

/** Starts a server that accepts traces and drops them. @returns its URL */
async function startEndpoint(): Promise<string> {
  const server = createServer((request, response) => request.resume().on('end', () => response.end()));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function middle({ name }: Case): Run {
  const found = runs.get(name)!;
  return {
    spansPerSecond: median(found.map((one) => one.spansPerSecond)),
    cpuMicrosPerSpan: median(found.map((one) => one.cpuMicrosPerSpan)),
  };
}

function row({ spansPerSecond, cpuMicrosPerSpan }: Run) {
  return {
    'spans a second': Math.round(spansPerSecond),
    'CPU µs a span': cpuMicrosPerSpan.toFixed(2),
    'of the spans': (spansPerSecond / baseline.spansPerSecond).toFixed(2),
    'of the processor time': (cpuMicrosPerSpan / baseline.cpuMicrosPerSpan).toFixed(2),
  };
}
