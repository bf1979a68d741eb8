import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { gatewayProtobuf } from '../generators/payloads.ts';
import type { Collector } from '../servers/collector.ts';
import { processMemoryMb } from '../servers/process-memory.ts';
import { send } from './otlp-client.ts';

/*
 * Polls GET /health from a separate process: the process that makes the load is too busy to measure times.
 * `node test/support/clients/health-probe.ts URL PID` prints one JSON object when its standard input ends.
 */

const INTERVAL_MS = 10;

export interface Health {
  readonly polls: number;
  /** Polls without a 200. */
  readonly failed: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Most CPU time of the collector's event loop during one poll. For the rest of a slow poll, other processes had the cores. */
  readonly cpuMaxMs: number;
}

/** The effect of a load on a collector. */
export interface LoadEffect extends Health {
  readonly peakRssMb: number;
  /** Longest event-loop lag that the collector measured. Includes time in which other processes had the cores. */
  readonly loopMaxMs: number;
}

/** Measures the collector while `load` runs. */
export async function measureUnderLoad(collector: Collector, load: () => Promise<unknown>): Promise<LoadEffect> {
  // Code that has not run yet is slow.
  for (let count = 0; count < 20; count++) await send(`${collector.adminUrl}/health`, '', { method: 'GET' });
  await collector.send(gatewayProtobuf({ spans: 100, seed: 1 }).body);
  // 5 resets the peak of the resident memory to the present value. Each scrape of the metrics resets the event-loop lag.
  writeFileSync(`/proc/${collector.pid}/clear_refs`, '5');
  await collector.metrics();
  const { health } = await pollHealth(collector, load);
  const metrics = await collector.metrics();
  return {
    ...health,
    peakRssMb: processMemoryMb(collector.pid, 'VmHWM'),
    loopMaxMs: (metrics.get('nodejs_eventloop_lag_max_seconds') ?? 0) * 1000,
  };
}

/** Polls the health of a collector until `work` is done. */
export async function pollHealth<Result>(
  { adminUrl, pid }: { readonly adminUrl: string; readonly pid: number },
  work: () => Promise<Result>,
): Promise<{ result: Result; health: Health }> {
  const probe = spawn(process.execPath, [import.meta.filename, adminUrl, String(pid)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const result = await work();
  probe.stdin.end();
  const health: Health = JSON.parse(await text(probe.stdout));
  return { result, health };
}

/** CPU time of a process's main thread. */
function ranMs(pid: string): number {
  const [nanoseconds] = readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ', 1);
  return Number(nanoseconds) / 1e6;
}

async function poll(url: string, pid: string): Promise<Health> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const latencies: number[] = [];
  let cpuMaxMs = 0;
  let failed = 0;
  const end = once(process.stdin.resume(), 'end').then(() => 'end');
  do {
    const ranBeforeMs = ranMs(pid);
    const startMs = performance.now();
    const status = await send(`${url}/health`, '', { method: 'GET', agent }).then(
      (answer) => answer.status,
      () => 0,
    );
    latencies.push(performance.now() - startMs);
    cpuMaxMs = Math.max(cpuMaxMs, ranMs(pid) - ranBeforeMs);
    if (status !== 200) failed++;
  } while ((await Promise.race([end, delay(INTERVAL_MS)])) !== 'end');
  agent.destroy();
  latencies.sort((a, b) => a - b);
  const quantile = (share: number) => latencies[Math.floor(latencies.length * share)];
  return { polls: latencies.length, failed, p50Ms: quantile(0.5), p99Ms: quantile(0.99), maxMs: latencies.at(-1)!, cpuMaxMs };
}

if (import.meta.main) process.stdout.write(`${JSON.stringify(await poll(process.argv[2], process.argv[3]))}\n`);
