import { setTimeout as sleep } from 'node:timers/promises';
import { startClickHouse, type TestClickHouse } from '../test/support/servers/clickhouse.ts';
import type { Progress } from '../test/support/commands/progress.ts';
import { runLoad } from './collector.ts';
import type { LoadOptions, LoadResult } from './load.ts';
import { cpuSeconds, machineCpuSeconds, ownCpuSeconds, peakMemoryMb } from './process-usage.ts';
import type { Subject } from './subjects.ts';

/*
 * Measures the built collector, or a baseline, with a real ClickHouse and the load generator: three processes on this machine. CPU time
 * is read from /proc for each of them. Merges are waited for and included.
 */

export interface Scenario extends Omit<LoadOptions, 'port'> {
  readonly name: string;
  /** Load of other senders at the same time. Answers and spans/s are those of the scenario alone, CPU and inserts those of all spans. */
  readonly others?: Omit<LoadOptions, 'port' | 'seconds'>;
  /** Too few spans for CPU per span to mean anything. */
  readonly isIdle?: boolean;
}

/** One run. NaN means no figure: for ClickHouse with a subject that stores nothing, or CPU per span of an idle scenario. */
export interface Figures {
  readonly spansPerSecond: number;
  /** Time until the last span is in ClickHouse, including the start of the load generator. */
  readonly storedSpansPerSecond: number;
  readonly collectorCpuUsPerSpan: number;
  readonly clickhouseCpuUsPerSpan: number;
  readonly insertsPerSecond: number;
  readonly rowsPerInsert: number;
  /** Rows written by merges for each row inserted. */
  readonly mergedRowsPerRow: number;
  readonly ackP50Ms: number;
  readonly ackP99Ms: number;
  readonly collectorPeakMemoryMb: number;
  readonly refusedRequests: number;
  /** Spans that are acknowledged, but not in ClickHouse at the end. */
  readonly lostSpans: number;
  /** Cores used by other processes, and by other virtual machines on the same hardware. Above 0.1, repeat the run on an idle machine. */
  readonly noiseCores: number;
}

export interface Measured {
  readonly scenario: string;
  readonly subject: string;
  /** The completed runs. */
  readonly runs: readonly Figures[];
  /** Why there are no more runs. */
  readonly missing?: Missing;
}

export interface Missing {
  readonly why: 'not available' | 'refused' | 'failed';
  /** The message of the error, or the answer of a refusal. */
  readonly reason: string;
}

/** A subject has refused all requests of a scenario. The message is its first answer. */
class Refused extends Error {}

/**
 * Warm-up at full load, and then as in the run itself. V8 compiles some code only after many requests, and again when metrics are first
 * read or the rate changes: in a collector that has run for an hour, all of it is compiled.
 */
const WARM_UP_SECONDS = 6;
/** At 500 requests/s, the CPU time of a span falls from 20 µs to 11 µs meanwhile: V8 compiles code only after thousands of requests. */
const WARM_UP_AT_RATE_SECONDS = 25;
const PREPARE_SECONDS = 15;

/** The expected time of all runs, including the preparation. */
export function expectedSeconds(subjects: readonly Subject[], scenarios: readonly Scenario[], runs: number): number {
  const all = runs * subjects.length * scenarios.reduce((sum, scenario) => sum + runSeconds(scenario), 0);
  return all + PREPARE_SECONDS * preparing(subjects).length;
}

/** The number of progress steps. */
export function stepCount(subjects: readonly Subject[], scenarios: readonly Scenario[], runs: number): number {
  return runs * subjects.length * scenarios.length + preparing(subjects).length;
}

function preparing(subjects: readonly Subject[]): readonly Subject[] {
  return subjects.filter((subject) => subject.prepare !== undefined);
}

/** Starting and stopping the processes, and merges, take as long as 6 s of load. */
function runSeconds({ seconds, rate }: Scenario): number {
  return seconds + warmUpSeconds(seconds) + warmUpSeconds(seconds, rate) + 6;
}

/** Seconds of load before a measurement of `seconds`: at full load, or at `rate` requests/s if that is given. */
export function warmUpSeconds(seconds: number, rate?: number): number {
  return rate === undefined ? Math.min(WARM_UP_SECONDS, 2 * seconds) : Math.min(WARM_UP_AT_RATE_SECONDS, 4 * seconds);
}

/**
 * Runs each scenario `runs` times with each subject. Subjects alternate, so that noise affects all of them. Each run has a new process and
 * an empty table. A subject that can't be installed, refuses the requests or fails is one of the results.
 */
export async function measureEndToEnd(
  subjects: readonly Subject[],
  scenarios: readonly Scenario[],
  runs: number,
  progress: Progress,
): Promise<Measured[]> {
  const unavailable = await prepareAll(subjects, progress);
  await using clickhouse = await startClickHouse();
  const cases = scenarios.flatMap((scenario) =>
    subjects.map((subject) => ({ scenario, subject, figures: [] as Figures[], missing: unavailable.get(subject) })),
  );
  for (let run = 1; run <= runs; run++) {
    for (const each of cases) {
      const { scenario, subject, figures } = each;
      if (each.missing !== undefined) {
        progress.skip(runSeconds(scenario));
        continue;
      }
      progress.step(`run ${run} of ${runs}: ${scenario.name}: ${subject.name}`, runSeconds(scenario));
      try {
        figures.push(await measure(subject, scenario, clickhouse));
      } catch (error) {
        const { message } = error as Error;
        each.missing = { why: error instanceof Refused ? 'refused' : 'failed', reason: message };
        progress.line(`${scenario.name}: ${subject.name}: ${each.missing.why}: ${message}`);
      }
    }
  }
  return cases.map(({ scenario, subject, figures, missing }) => {
    return { scenario: scenario.name, subject: subject.name, runs: figures, missing };
  });
}

/** The subjects that can't be installed. */
async function prepareAll(subjects: readonly Subject[], progress: Progress): Promise<Map<Subject, Missing>> {
  const unavailable = new Map<Subject, Missing>();
  for (const subject of preparing(subjects)) {
    progress.step(`${subject.name}: installing or building it, which takes minutes the first time`, PREPARE_SECONDS);
    await subject.prepare!().catch(({ message }: Error) => {
      const [reason] = message.split('\n', 1);
      unavailable.set(subject, { why: 'not available', reason });
      progress.line(`${subject.name}: not available: ${reason}`);
    });
  }
  return unavailable;
}

/** The figures of all runs. @throws when a run was not completed */
export function completed({ scenario, subject, runs, missing }: Measured): readonly Figures[] {
  if (missing !== undefined) throw new Error(`${scenario}: ${subject}: ${missing.why}: ${missing.reason}`);
  return runs;
}

/** Runs the scenario's load and that of the other senders. @throws Refused when no request of the scenario is acknowledged */
async function load({ others, ...own }: Scenario, port: number): Promise<LoadResult & { readonly allSpans: number }> {
  const [result, other] = await Promise.all([runLoad({ ...own, port }), others && runLoad({ ...others, port, seconds: own.seconds })]);
  const { acknowledgedSpans, cpuSeconds: used, firstRefusal } = result;
  if (acknowledgedSpans === 0) throw new Refused(firstRefusal ?? 'no request was answered');
  return { ...result, allSpans: acknowledgedSpans + (other?.acknowledgedSpans ?? 0), cpuSeconds: used + (other?.cpuSeconds ?? 0) };
}

async function measure(subject: Subject, scenario: Scenario, clickhouse: TestClickHouse): Promise<Figures> {
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  await using server = await subject.start(clickhouse.url);
  const { pid, port } = server;
  let warmUpSpans = 0;
  for (const rate of [undefined, scenario.rate]) {
    const warmUp = await load({ ...scenario, rate, seconds: warmUpSeconds(scenario.seconds, rate) }, port);
    warmUpSpans += warmUp.allSpans;
    await server.drained(warmUpSpans);
  }
  await clickhouse.command('TRUNCATE TABLE IF EXISTS otel_traces');
  await clickhouse.command('SYSTEM FLUSH LOGS');
  await clickhouse.command('TRUNCATE TABLE IF EXISTS system.part_log');

  const before = {
    server: cpuSeconds(pid),
    clickhouse: cpuSeconds(clickhouse.server.pid),
    own: ownCpuSeconds(),
    machine: machineCpuSeconds(),
  };
  const begin = performance.now();
  const { acknowledgedSpans, allSpans, ...sent } = await load(scenario, port);
  await server.drained(allSpans);
  const storedAfterSeconds = (performance.now() - begin) / 1000;
  const serverCpu = cpuSeconds(pid) - before.server;
  await mergesDone(clickhouse);
  const clickhouseCpu = cpuSeconds(clickhouse.server.pid) - before.clickhouse;
  const othersCpu = machineCpuSeconds() - before.machine - serverCpu - clickhouseCpu - sent.cpuSeconds - (ownCpuSeconds() - before.own);
  const noiseCores = othersCpu / ((performance.now() - begin) / 1000);

  const usPerSpan = (seconds: number) => (scenario.isIdle ? Number.NaN : (seconds * 1e6) / allSpans);
  const { inserts, ...parts } = subject.stores ? await partsWritten(subject, clickhouse, allSpans) : NO_PARTS;
  return {
    spansPerSecond: acknowledgedSpans / sent.seconds,
    storedSpansPerSecond: acknowledgedSpans / (scenario.rate === undefined ? storedAfterSeconds : sent.seconds),
    collectorCpuUsPerSpan: usPerSpan(serverCpu),
    clickhouseCpuUsPerSpan: subject.stores ? usPerSpan(clickhouseCpu) : Number.NaN,
    insertsPerSecond: inserts / (scenario.rate === undefined ? storedAfterSeconds : sent.seconds),
    ...parts,
    ackP50Ms: sent.p50Ms,
    ackP99Ms: sent.p99Ms,
    collectorPeakMemoryMb: peakMemoryMb(pid),
    refusedRequests: sent.refused,
    noiseCores,
  };
}

interface Parts extends Pick<Figures, 'rowsPerInsert' | 'mergedRowsPerRow' | 'lostSpans'> {
  readonly inserts: number;
}

const NO_PARTS: Parts = { inserts: Number.NaN, rowsPerInsert: Number.NaN, mergedRowsPerRow: Number.NaN, lostSpans: Number.NaN };

/** Compares stored and acknowledged spans. @throws when spans are missing although the subject guarantees that none are lost */
async function partsWritten(subject: Subject, clickhouse: TestClickHouse, acknowledgedSpans: number): Promise<Parts> {
  await clickhouse.command('SYSTEM FLUSH LOGS');
  const [parts] = await clickhouse.query<{ inserts: string; inserted: string; merged: string }>(
    `SELECT countIf(event_type = 'NewPart') AS inserts, sumIf(rows, event_type = 'NewPart') AS inserted,
       sumIf(rows, event_type = 'MergeParts') AS merged
     FROM system.part_log WHERE table = 'otel_traces'`,
  );
  const [{ stored }] = await clickhouse.query<{ stored: string }>('SELECT count() AS stored FROM otel_traces');
  const lostSpans = Math.max(0, acknowledgedSpans - Number(stored));
  if (lostSpans > 0 && subject.mayLose === undefined) throw new Error(`${acknowledgedSpans} spans acknowledged, ${stored} stored`);
  const [inserts, inserted, merged] = [parts.inserts, parts.inserted, parts.merged].map(Number);
  return { inserts, rowsPerInsert: inserted / inserts, mergedRowsPerRow: merged / inserted, lostSpans };
}

/** Waits for merges, which continue after the load and are part of its cost. */
async function mergesDone(clickhouse: TestClickHouse): Promise<void> {
  for (let quiet = 0; quiet < 3;) {
    await sleep(300);
    const [{ merges }] = await clickhouse.query<{ merges: string }>(
      "SELECT count() AS merges FROM system.merges WHERE table = 'otel_traces'",
    );
    quiet = merges === '0' ? quiet + 1 : 0;
  }
}
