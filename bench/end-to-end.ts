import { setTimeout as sleep } from 'node:timers/promises';
import { startClickHouse, type TestClickHouse } from '../test/support/servers/clickhouse.ts';
import { runLoad } from './collector.ts';
import type { LoadOptions } from './load.ts';
import { cpuSeconds, machineCpuSeconds, ownCpuSeconds, peakMemoryMb } from './process-usage.ts';
import type { Subject } from './subjects.ts';

/*
 * What is measured (the built collector, or a baseline), a real ClickHouse and the load generator, each a process of its
 * own, on this machine. CPU is read from /proc, for each of them apart; merges are waited for and included.
 */

export interface Scenario extends Omit<LoadOptions, 'port'> {
  readonly name: string;
}

/** One run. Of a subject that stores nothing, what ClickHouse does is NaN. */
export interface Figures {
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
  /** Acknowledged, and not in ClickHouse in the end. */
  readonly lostSpans: number;
  /** Cores that other processes and other machines on the same hardware took meanwhile: above 0.1, run again when it is quiet. */
  readonly noiseCores: number;
}

export interface Measured {
  readonly scenario: string;
  readonly subject: string;
  readonly runs: readonly Figures[];
}

/**
 * At full load, and then as in the run itself: what V8 compiles only after many requests, and compiles again when the first
 * metrics are read or the pace changes, is compiled long since in a collector that has run for an hour.
 */
const WARM_UP_SECONDS = 6;

/**
 * Runs each scenario with each subject, `runs` times over. Subjects take turns, so that all meet the same noise. Each run
 * has a new process and an empty table.
 */
export async function measureEndToEnd(subjects: readonly Subject[], scenarios: readonly Scenario[], runs: number): Promise<Measured[]> {
  await using clickhouse = await startClickHouse();
  const cases = scenarios.flatMap((scenario) => subjects.map((subject) => ({ scenario, subject, runs: [] as Figures[] })));
  for (let run = 0; run < runs; run++) {
    for (const each of cases) each.runs.push(await measure(each.subject, each.scenario, clickhouse));
  }
  return cases.map((each) => ({ scenario: each.scenario.name, subject: each.subject.name, runs: each.runs }));
}

async function measure(subject: Subject, scenario: Scenario, clickhouse: TestClickHouse): Promise<Figures> {
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  await using server = await subject.start(clickhouse.url);
  const { pid, port } = server;
  let warmUpSpans = 0;
  for (const rate of [undefined, scenario.rate]) {
    const warmUp = await runLoad({ ...scenario, rate, port, seconds: Math.min(WARM_UP_SECONDS, 2 * scenario.seconds) });
    warmUpSpans += warmUp.acknowledgedSpans;
    await server.drained(warmUpSpans);
  }
  await clickhouse.command('TRUNCATE TABLE IF EXISTS otel_traces');
  await clickhouse.command('SYSTEM FLUSH LOGS');
  await clickhouse.command('TRUNCATE TABLE IF EXISTS system.part_log');

  const before = { server: cpuSeconds(pid), clickhouse: cpuSeconds(clickhouse.server.pid), own: ownCpuSeconds(), machine: machineCpuSeconds() };
  const begin = performance.now();
  const load = await runLoad({ ...scenario, port });
  await server.drained(load.acknowledgedSpans);
  const storedAfterSeconds = (performance.now() - begin) / 1000;
  const serverCpu = cpuSeconds(pid) - before.server;
  await mergesDone(clickhouse);
  const clickhouseCpu = cpuSeconds(clickhouse.server.pid) - before.clickhouse;
  const othersCpu = machineCpuSeconds() - before.machine - serverCpu - clickhouseCpu - load.cpuSeconds - (ownCpuSeconds() - before.own);
  const noiseCores = othersCpu / ((performance.now() - begin) / 1000);

  const { acknowledgedSpans } = load;
  if (acknowledgedSpans === 0) throw new Error(`${subject.name}, ${scenario.name}: no request was taken`);
  return {
    spansPerSecond: acknowledgedSpans / load.seconds,
    storedSpansPerSecond: acknowledgedSpans / (scenario.rate === undefined ? storedAfterSeconds : load.seconds),
    collectorCpuUsPerSpan: (serverCpu * 1e6) / acknowledgedSpans,
    clickhouseCpuUsPerSpan: subject.stores ? (clickhouseCpu * 1e6) / acknowledgedSpans : Number.NaN,
    ...(subject.stores ? await partsWritten(subject, clickhouse, acknowledgedSpans) : { rowsPerInsert: Number.NaN, mergedRowsPerRow: Number.NaN, lostSpans: Number.NaN }),
    ackP50Ms: load.p50Ms,
    ackP99Ms: load.p99Ms,
    collectorPeakMemoryMb: peakMemoryMb(pid),
    refusedRequests: load.refused,
    noiseCores,
  };
}

/** @throws when fewer spans are stored than were acknowledged, and the subject promises that it can't be so */
async function partsWritten(subject: Subject, clickhouse: TestClickHouse, acknowledgedSpans: number): Promise<Pick<Figures, 'rowsPerInsert' | 'mergedRowsPerRow' | 'lostSpans'>> {
  await clickhouse.command('SYSTEM FLUSH LOGS');
  const [parts] = await clickhouse.query<{ inserts: string; inserted: string; merged: string }>(
    `SELECT countIf(event_type = 'NewPart') AS inserts, sumIf(rows, event_type = 'NewPart') AS inserted, sumIf(rows, event_type = 'MergeParts') AS merged
     FROM system.part_log WHERE table = 'otel_traces'`,
  );
  const [{ stored }] = await clickhouse.query<{ stored: string }>('SELECT count() AS stored FROM otel_traces');
  const lostSpans = Math.max(0, acknowledgedSpans - Number(stored));
  if (lostSpans > 0 && subject.mayLose === undefined) throw new Error(`${subject.name}: ${acknowledgedSpans} spans acknowledged, ${stored} stored`);
  return { rowsPerInsert: Number(parts.inserted) / Number(parts.inserts), mergedRowsPerRow: Number(parts.merged) / Number(parts.inserted), lostSpans };
}

/** Merges go on after the load; they belong to its cost. */
async function mergesDone(clickhouse: TestClickHouse): Promise<void> {
  for (let quiet = 0; quiet < 3; ) {
    await sleep(300);
    const [{ merges }] = await clickhouse.query<{ merges: string }>("SELECT count() AS merges FROM system.merges WHERE table = 'otel_traces'");
    quiet = merges === '0' ? quiet + 1 : 0;
  }
}
