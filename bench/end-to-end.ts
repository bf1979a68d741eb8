import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startClickHouse, type TestClickHouse } from '../test/support/clickhouse.ts';
import { runLoad, startCollector } from './collector.ts';
import type { LoadOptions } from './load.ts';
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
  await using collector = await startCollector(clickhouse.url, env);
  const { pid, port } = collector;
  await runLoad({ ...scenario, port, seconds: WARM_UP_SECONDS });
  await collector.drained();
  await clickhouse.command('TRUNCATE TABLE otel_traces');
  await clickhouse.command('SYSTEM FLUSH LOGS');
  await clickhouse.command('TRUNCATE TABLE system.part_log');

  const collectorBefore = cpuSeconds(pid);
  const clickhouseBefore = cpuSeconds(clickhouse.server.pid);
  const begin = performance.now();
  const load = await runLoad({ ...scenario, port });
  await collector.drained();
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
}

/** Merges go on after the load; they belong to its cost. */
async function mergesDone(clickhouse: TestClickHouse): Promise<void> {
  for (let quiet = 0; quiet < 3; ) {
    await sleep(300);
    const [{ merges }] = await clickhouse.query<{ merges: string }>("SELECT count() AS merges FROM system.merges WHERE table = 'otel_traces'");
    quiet = merges === '0' ? quiet + 1 : 0;
  }
}
