import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { startClickHouse, type TestClickHouse } from '../test/support/clickhouse.ts';
import type { LoadOptions, LoadResult } from './load.ts';
import { cpuSeconds, peakMemoryMb } from './process-usage.ts';

/*
 * The built collector, a real ClickHouse and the load generator, each a process of its own, on this machine. CPU is read
 * from /proc, for the collector and for ClickHouse apart; merges are waited for and included.
 */

export interface Scenario extends Omit<LoadOptions, 'port'> {
  readonly name: string;
}

export interface EndToEndResult {
  readonly name: string;
  readonly spansPerSecond: number;
  /** Until the last of them is in ClickHouse; the load generator's start included. */
  readonly storedSpansPerSecond: number;
  readonly collectorCpuUsPerSpan: number;
  readonly clickhouseCpuUsPerSpan: number;
  readonly rowsPerInsert: number;
  /** Rows written by merges for each row inserted. */
  readonly mergedRowsPerRow: number;
  readonly ackP50Ms: number;
  readonly ackP99Ms: number;
  readonly collectorPeakMemoryMb: number;
  readonly refusedRequests: number;
}

const WARM_UP_SECONDS = 3;

/** Runs the scenarios one after the other, each with a new collector and an empty table. */
export async function measureEndToEnd(scenarios: readonly Scenario[], diskBuffer: boolean): Promise<EndToEndResult[]> {
  await using clickhouse = await startClickHouse();
  const results: EndToEndResult[] = [];
  for (const scenario of scenarios) {
    const dir = mkdtempSync(join(tmpdir(), 'bench-'));
    results.push(await measure(scenario, clickhouse, diskBuffer ? { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir } : {}));
    rmSync(dir, { recursive: true });
  }
  return results;
}

async function measure(scenario: Scenario, clickhouse: TestClickHouse, env: Record<string, string>): Promise<EndToEndResult> {
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  const { collector, port, healthPort } = await startCollector(clickhouse.url, env);
  const pid = collector.pid!;
  try {
    await runLoad({ ...scenario, port, seconds: WARM_UP_SECONDS });
    await drained(healthPort);
    await clickhouse.command('TRUNCATE TABLE otel_traces');
    await clickhouse.command('SYSTEM FLUSH LOGS');
    await clickhouse.command('TRUNCATE TABLE system.part_log');

    const collectorBefore = cpuSeconds(pid);
    const clickhouseBefore = cpuSeconds(clickhouse.server.pid);
    const begin = performance.now();
    const load = await runLoad({ ...scenario, port });
    await drained(healthPort);
    const storedAfterSeconds = (performance.now() - begin) / 1000;
    const collectorCpu = cpuSeconds(pid) - collectorBefore;
    await mergesDone(clickhouse);
    const clickhouseCpu = cpuSeconds(clickhouse.server.pid) - clickhouseBefore;

    await clickhouse.command('SYSTEM FLUSH LOGS');
    const [parts] = await clickhouse.query<{ inserts: string; inserted: string; merged: string }>(
      `SELECT countIf(event_type = 'NewPart') AS inserts, sumIf(rows, event_type = 'NewPart') AS inserted, sumIf(rows, event_type = 'MergeParts') AS merged
       FROM system.part_log WHERE table = 'otel_traces'`,
    );
    const [{ stored }] = await clickhouse.query<{ stored: string }>('SELECT count() AS stored FROM otel_traces');
    if (Number(stored) < load.acknowledgedSpans) throw new Error(`${scenario.name}: ${load.acknowledgedSpans} spans acknowledged, ${stored} stored`);
    return {
      name: scenario.name,
      spansPerSecond: load.acknowledgedSpans / load.seconds,
      storedSpansPerSecond: load.acknowledgedSpans / (scenario.rate === undefined ? storedAfterSeconds : load.seconds),
      collectorCpuUsPerSpan: (collectorCpu * 1e6) / load.acknowledgedSpans,
      clickhouseCpuUsPerSpan: (clickhouseCpu * 1e6) / load.acknowledgedSpans,
      rowsPerInsert: Number(parts.inserted) / Number(parts.inserts),
      mergedRowsPerRow: Number(parts.merged) / Number(parts.inserted),
      ackP50Ms: load.p50Ms,
      ackP99Ms: load.p99Ms,
      collectorPeakMemoryMb: peakMemoryMb(pid),
      refusedRequests: load.refused,
    };
  } finally {
    collector.kill('SIGTERM');
    if (collector.exitCode === null) await once(collector, 'exit');
  }
}

async function startCollector(clickhouseUrl: string, settings: Record<string, string>): Promise<{ collector: ChildProcess; port: number; healthPort: number }> {
  const [port, healthPort, healthcheckPort] = await Promise.all([freePort(), freePort(), freePort()]);
  const env = {
    ...process.env,
    HOST: '127.0.0.1',
    PORT: String(port),
    HEALTH_PORT: String(healthPort),
    HEALTHCHECK_PORT: String(healthcheckPort),
    CLICKHOUSE_URL: clickhouseUrl,
    CLICKHOUSE_CREATE_SCHEMA: 'true',
    DISABLE_AUTH: 'true',
    LOG_LEVEL: 'error',
    ...settings,
  };
  const collector = spawn(process.execPath, [new URL('../dist/main.js', import.meta.url).pathname], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  for (let tries = 0; tries < 200; tries++) {
    const ready = await fetch(`http://127.0.0.1:${healthPort}/ready`).then((response) => response.ok, () => false);
    if (ready) return { collector, port, healthPort };
    await sleep(50);
  }
  collector.kill('SIGKILL');
  throw new Error('The collector did not become ready within 10 s.');
}

async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const { stdout } = await promisify(execFile)(process.execPath, [new URL('load.ts', import.meta.url).pathname, JSON.stringify(options)]);
  return JSON.parse(stdout) as LoadResult;
}

/** With the disk buffer, what is acknowledged may still be on its way. */
async function drained(healthPort: number): Promise<void> {
  for (;;) {
    const metrics = await (await fetch(`http://127.0.0.1:${healthPort}/metrics`)).text();
    if (/^otelcol_exporter_queue_size\S* 0$/m.test(metrics) && /^hive_collector_inserts_under_way 0$/m.test(metrics)) return;
    await sleep(50);
  }
}

/** Merges go on after the load; they belong to its cost. */
async function mergesDone(clickhouse: TestClickHouse): Promise<void> {
  for (let quiet = 0; quiet < 3; ) {
    await sleep(300);
    const [{ merges }] = await clickhouse.query<{ merges: string }>("SELECT count() AS merges FROM system.merges WHERE table = 'otel_traces'");
    quiet = merges === '0' ? quiet + 1 : 0;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
