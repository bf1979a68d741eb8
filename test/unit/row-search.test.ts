import { expect, test } from 'vitest';
import { RowSearch } from '../../src/batch/row-search.ts';
import type { SearchStep } from '../../src/queue/search-step.ts';
import { InsertError } from '../../src/storage/insert-error.ts';
import { Random } from '../support/generators/random.ts';

const refusal = (message: string) => ({ error: new InsertError('469', message), server: 'http://clickhouse:8123' });
const rowsOf = (ranges: readonly (readonly [number, number])[]) =>
  ranges.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));
const named = (row: number) =>
  `Code: 469. DB::Exception: Constraint \`c\` for table default.otel_traces (6e9c0b4e-0000-4000-8000-000000000000) ` +
  `is violated at row ${row + 1}. Expression: (x). Column values: y = 'is violated at row 1. '. (VIOLATED_CONSTRAINT) (version 26.7.2.1)`;

/** Searches rows of which some are bad. A crash now and then leaves nothing but the steps. */
function searched(rows: number, bad: ReadonlySet<number>, starts: readonly number[], options: { names: boolean; crash: () => boolean }) {
  const steps: SearchStep[] = [];
  const stored = new Map<number, readonly number[]>();
  let sent = 0;
  let search = new RowSearch(rows, starts);
  for (let set = search.next(); set !== undefined; set = search.next()) {
    const members = rowsOf(set.ranges);
    const first = members.findIndex((row) => bad.has(row));
    sent++;
    if (first < 0) {
      // ClickHouse knows a set by its number.
      if (stored.has(set.number)) expect(stored.get(set.number)).toEqual(members);
      stored.set(set.number, members);
      search.stored(set);
    } else {
      const refused = refusal(options.names ? named(first) : 'Code: 117. DB::Exception: no');
      const split = search.splitOf(set, refused.error);
      if (split === undefined) search.refuse(set, refused);
      else {
        steps.push(split);
        search.split(split);
      }
    }
    if (options.crash()) {
      search = new RowSearch(rows, starts);
      for (const step of JSON.parse(JSON.stringify(steps)) as SearchStep[]) if (step.kind === 'split') search.split(step);
    }
  }
  return { stored: [...stored.values()].flat().toSorted((a, b) => a - b), refused: search.result(), sent };
}

test('finds just the rows at fault, with a row named or not, over crashes, and each other row is stored once', () => {
  const random = new Random(11);
  for (let run = 0; run < 400; run++) {
    const rows = 1 + random.below(random.pick([3, 40, 1000]));
    const bad = new Set(Array.from({ length: 1 + random.below(7) }, () => random.below(rows)));
    const starts = Array.from({ length: rows - 1 }, (_, i) => i + 1).filter(() => random.chance(0.1));
    const crashes = random.chance(0.5);
    const { refused, stored } = searched(rows, bad, starts, { names: random.chance(0.5), crash: () => crashes && random.chance(0.05) });
    expect(refused).toHaveLength(1);
    expect(refused[0].decided).toBe(true);
    expect(rowsOf(refused[0].ranges)).toEqual([...bad].toSorted((a, b) => a - b));
    expect(stored).toEqual(Array.from({ length: rows }, (_, row) => row).filter((row) => !bad.has(row)));
  }
});

test('a row that a constraint names costs one insert of all others', () => {
  expect(searched(1000, new Set([77]), [], { names: true, crash: () => false }).sent).toBe(3);
  expect(searched(1000, new Set([77, 900]), [], { names: true, crash: () => false }).sent).toBe(5);
});

test('thousands at fault cost a bounded number of inserts, and nobody else a row', () => {
  for (const names of [true, false]) {
    const bad = new Set(Array.from({ length: 8000 }, (_, i) => 500 + i));
    const { refused, sent, stored } = searched(9000, bad, [200, 500, 8500], { names, crash: () => false });
    expect(sent).toBeLessThan(260);
    expect(refused.flatMap(({ ranges }) => rowsOf(ranges)).toSorted((a, b) => a - b)).toEqual([...bad]);
    expect(stored).toHaveLength(1000);
  }
});
