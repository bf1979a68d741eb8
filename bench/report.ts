import { completed, type Figures, type Measured } from './end-to-end.ts';
import { median, type Spread, spread } from './statistics.ts';

/*
 * The figures as tables in Markdown. docs/performance.md and docs/comparison.md have them as they are printed:
 *
 *   | CPU µs a span, collector / ClickHouse | this collector, disk buffer | … a column a subject
 *   | 500 requests/s of 11 spans            | 15 (14–17) / 20 (17–23)     | … a row a scenario
 */

/** The medians of several runs, and their spreads. */
export type Summary = Figures & {
  readonly name: string;
  readonly subject: string;
  readonly runs: number;
  readonly spread: Readonly<Record<keyof Figures, Spread>>;
};

/** Medians and spreads of all runs. @throws Error when a run was not completed */
export function summarize(measured: Measured): Summary {
  const runs = completed(measured);
  const names = Object.keys(runs[0]) as (keyof Figures)[];
  const spreads = Object.fromEntries(names.map((name) => [name, spread(runs.map((run) => run[name]))])) as Summary['spread'];
  const medians = Object.fromEntries(names.map((name) => [name, spreads[name].median])) as unknown as Figures;
  return { name: measured.scenario, subject: measured.subject, runs: runs.length, ...medians, spread: spreads };
}

type Cells = readonly string[];

const TABLES: readonly (readonly [title: string, cell: (summary: Summary) => string])[] = [
  [
    'CPU µs a span, collector / ClickHouse',
    ({ spread: of, runs }) => joined(' / ', withRange(of.collectorCpuUsPerSpan, runs), withRange(of.clickhouseCpuUsPerSpan, runs)),
  ],
  [
    'inserts a second · rows an insert · rows merged for each stored',
    (of) => joined(' · ', short(of.insertsPerSecond), short(of.rowsPerInsert), short(of.mergedRowsPerRow)),
  ],
  ['spans a second, acknowledged · stored', (of) => joined(' · ', short(of.spansPerSecond), short(of.storedSpansPerSecond))],
  ['time to 200 in ms, p50 · p99', (of) => joined(' · ', short(of.ackP50Ms), short(of.ackP99Ms))],
  ['peak memory of the collector, MB', (of) => short(of.collectorPeakMemoryMb)],
];

/** All tables that have figures, followed by refusals, failures and losses. */
export function endToEndTables(measured: readonly Measured[]): string {
  const subjects = [...new Set(measured.map(({ subject }) => subject))];
  const scenarios = [...Map.groupBy(measured, ({ scenario }) => scenario)];
  const tables = TABLES.map(([title, cell]) => {
    const cellOf = (one: Measured) => one.missing?.why ?? cell(summarize(one));
    return markdown(
      [title, ...subjects],
      scenarios.map(([scenario, cases]) => [scenario].concat(cases.map(cellOf))),
    );
  });
  return [...tables.filter((table) => table !== ''), ...remarks(measured)].join('\n\n');
}

/** The highest use of the machine by other programs in a run, in cores. */
export function mostNoise(measured: readonly Measured[]): number {
  return Math.max(0, ...measured.flatMap(({ runs }) => runs.map(({ noiseCores }) => noiseCores)));
}

function remarks(measured: readonly Measured[]): string[] {
  const found = measured.flatMap((one) => {
    const { scenario, subject, missing } = one;
    if (missing !== undefined) return [`- ${subject}, ${scenario}: ${missing.why}: ${missing.reason}`];
    const { refusedRequests, lostSpans } = summarize(one);
    return [
      ...(refusedRequests > 0 ? [`- ${subject}, ${scenario}: ${whole(refusedRequests)} requests refused`] : []),
      ...(lostSpans > 0 ? [`- ${subject}, ${scenario}: ${whole(lostSpans)} acknowledged spans are not in the table`] : []),
    ];
  });
  return found.length === 0 ? [] : [found.join('\n')];
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en');
}

const NOTHING = '–';

function joined(separator: string, ...parts: readonly string[]): string {
  const all = parts.filter((part) => part !== NOTHING);
  return all.length === 0 ? NOTHING : all.join(separator);
}

function withRange({ median: middle, min, max }: Spread, runs: number): string {
  return runs === 1 || Number.isNaN(middle) ? short(middle) : `${short(middle)} (${short(min)}–${short(max)})`;
}

/** Two or three digits: `0.27`, `4.8`, `213`, `98k`, `1.4M`. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return NOTHING;
  if (value >= 999_500) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 9_950) return `${Math.round(value / 1000)}k`;
  if (value >= 9.95 || value === 0) return String(Math.round(value));
  return value.toFixed(value < 0.995 ? 2 : 1);
}

/** A table in Markdown with aligned columns. Rows without any figure are left out; a table without rows is an empty string. */
export function markdown(head: Cells, allRows: readonly Cells[]): string {
  const rows = allRows.filter(([, ...cells]) => cells.some((text) => text !== NOTHING));
  if (rows.length === 0) return '';
  const widths = head.map((_, column) => Math.max(3, ...[head, ...rows].map((cells) => cells[column].length)));
  const line = (cells: Cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join('\n');
}

/** The baseline's figures divided by the subject's: medians of the ratios in each run. */
export interface Ratio {
  readonly scenario: string;
  readonly subject: string;
  readonly baseline: string;
  readonly collectorCpu: number;
  readonly clickhouseCpu: number;
  /** The other way around: the subject's divided by the baseline's. More than 1 is better in all three. */
  readonly spansPerSecond: number;
}

/** Compares each of `subjects` with each of `baselines`, in every scenario that both have completed. */
export function ratios(measured: readonly Measured[], subjects: readonly string[], baselines: readonly string[]): Ratio[] {
  const all = measured.filter(({ missing }) => missing === undefined);
  const others = all.filter(({ subject }) => baselines.includes(subject));
  return all
    .filter(({ subject }) => subjects.includes(subject))
    .flatMap((ours) => others.filter(({ scenario }) => scenario === ours.scenario).map((theirs) => ratio(ours, theirs)));
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

/** A column per baseline, a row per subject and scenario: the baseline's CPU divided by the subject's. An empty string without figures. */
export function ratioTable(all: readonly Ratio[]): string {
  const baselines = [...new Set(all.map(({ baseline }) => baseline))];
  const ratioIn = (of: readonly Ratio[]) => (wanted: string) => {
    const found = of.find(({ baseline }) => baseline === wanted);
    return found === undefined ? NOTHING : joined(' / ', short(found.collectorCpu), short(found.clickhouseCpu));
  };
  const rows = [...Map.groupBy(all, ({ scenario, subject }) => `${subject}: ${scenario}`)];
  const title = 'CPU, collector / ClickHouse: how many times that of';
  return markdown(
    [title, ...baselines],
    rows.map(([name, of]) => [name].concat(baselines.map(ratioIn(of)))),
  );
}
