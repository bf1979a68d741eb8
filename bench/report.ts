import type { Figures, Measured } from './end-to-end.ts';
import { median, type Spread, spread } from './statistics.ts';

/** Figures of several runs: the medians by their names, and beside them the spreads. */
export type Summary = Figures & { readonly name: string; readonly subject: string; readonly runs: number; readonly spread: Readonly<Record<keyof Figures, Spread>> };

const COLUMNS: readonly (readonly [title: string, figure: keyof Figures, digits: number])[] = [
  ['spans/s', 'spansPerSecond', 0],
  ['stored/s', 'storedSpansPerSecond', 0],
  ['collector µs/span', 'collectorCpuUsPerSpan', 2],
  ['ClickHouse µs/span', 'clickhouseCpuUsPerSpan', 2],
  ['rows/insert', 'rowsPerInsert', 0],
  ['merged rows/row', 'mergedRowsPerRow', 2],
  ['ack p50 ms', 'ackP50Ms', 1],
  ['ack p99 ms', 'ackP99Ms', 1],
  ['peak MB', 'collectorPeakMemoryMb', 0],
  ['refused', 'refusedRequests', 0],
  ['lost spans', 'lostSpans', 0],
  ['noise, cores', 'noiseCores', 2],
];

export function summarize({ scenario, subject, runs }: Measured): Summary {
  const names = COLUMNS.map(([, figure]) => figure);
  const spreads = Object.fromEntries(names.map((name) => [name, spread(runs.map((run) => run[name]))])) as Summary['spread'];
  const medians = Object.fromEntries(names.map((name) => [name, spreads[name].median])) as unknown as Figures;
  return { name: scenario, subject, runs: runs.length, ...medians, spread: spreads };
}

/** A table a scenario, a row a subject. */
export function printEndToEnd(measured: readonly Measured[]): void {
  const scenarios = Map.groupBy(measured.map(summarize), ({ name }) => name);
  for (const [scenario, summaries] of scenarios) {
    console.log(`\n${scenario}`);
    console.table(Object.fromEntries(summaries.map((summary) => [summary.subject, cells(summary)])));
  }
}

function cells({ runs, spread: spreads }: Summary): Record<string, string | number> {
  return Object.fromEntries(COLUMNS.map(([title, figure, digits]) => [title, cell(spreads[figure], digits, runs)]));
}

function cell({ median: middle, min, max }: Spread, digits: number, runs: number): string | number {
  if (Number.isNaN(middle)) return '';
  return runs === 1 ? Number(middle.toFixed(digits)) : `${middle.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`;
}

/** What the baseline needs for each 1 that the subject needs, run by run; the median of the runs. */
export interface Ratio {
  readonly scenario: string;
  readonly subject: string;
  readonly baseline: string;
  readonly collectorCpu: number;
  readonly clickhouseCpu: number;
  /** Here: what the subject stores for each span that the baseline does. */
  readonly spansPerSecond: number;
}

/** Each of `subjects` beside each of `baselines`, in every scenario. */
export function ratios(measured: readonly Measured[], subjects: readonly string[], baselines: readonly string[]): Ratio[] {
  return measured
    .filter(({ subject }) => subjects.includes(subject))
    .flatMap((ours) => measured.filter((theirs) => theirs.scenario === ours.scenario && baselines.includes(theirs.subject)).map((theirs) => ratio(ours, theirs)));
}

function ratio(ours: Measured, theirs: Measured): Ratio {
  const timesOurs = (figure: keyof Figures) => median(theirs.runs.map((run, index) => run[figure] / ours.runs[index][figure]));
  return {
    scenario: ours.scenario,
    subject: ours.subject,
    baseline: theirs.subject,
    collectorCpu: timesOurs('collectorCpuUsPerSpan'),
    clickhouseCpu: timesOurs('clickhouseCpuUsPerSpan'),
    spansPerSecond: 1 / timesOurs('spansPerSecond'),
  };
}

export function printRatios(all: readonly Ratio[]): void {
  console.log('\nThe baseline beside the collector: CPU it takes for each µs of ours, and spans/s of ours for each of its own\n');
  console.table(
    all.map(({ scenario, subject, baseline, collectorCpu, clickhouseCpu, spansPerSecond }) => ({
      scenario,
      subject,
      baseline,
      'collector CPU': times(collectorCpu),
      'ClickHouse CPU': times(clickhouseCpu),
      'spans/s': times(spansPerSecond),
    })),
  );
}

function times(value: number): string {
  return Number.isNaN(value) ? '' : `${value.toFixed(2)} ×`;
}
