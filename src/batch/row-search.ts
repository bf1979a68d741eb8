import type { Refused } from '../queue/block-queue.ts';
import type { RefusedRows, SearchStep } from '../queue/search-step.ts';
import { violatedRow } from '../storage/exception-text.ts';
import type { InsertError } from '../storage/insert-error.ts';
import { countRows, type RowRange } from '../transcode/native/native-rows.ts';

/*
 * Which rows of a block ClickHouse refuses. Sets of rows are sent, the largest first. One that is stored is done; one that is
 * refused is split in two, until a single row is refused: that row is at fault.
 *
 * - A set is halved where one sender's rows end and another's begin, as far as that is known: the rows of others soon get away from
 *   those of a sender who has sent many that are at fault.
 * - A constraint's exception names a row. That row is then sent alone, and the others of its set together again: a few rows at fault
 *   cost one insert of all others. Where there are many, halving is faster.
 * - A block is split MAX_SPLITS times at most, and no more when MAX_IN_VAIN sets in a row were refused. What is more than one row and
 *   refused then stays undecided.
 */

const MAX_SPLITS = 128;
const MAX_IN_VAIN = 64;

/** Splits by a row that was named: of a set, before it is halved, and of a block. */
const MAX_NAMED_OF_SET = 3;
const MAX_NAMED = 32;

/** A set of rows, with a number that no other set of its block has. */
export interface RowSet {
  readonly number: number;
  /** In ascending order, and not adjacent. */
  readonly ranges: readonly RowRange[];
  readonly rows: number;
}

interface Node extends RowSet {
  /** Splits by a row that was named, since the last halving. */
  readonly named: number;
}

export class RowSearch {
  private readonly starts: readonly number[];
  private readonly sets = new Map<number, Node>();
  private readonly refused: RefusedRows[] = [];
  private splits = 0;
  private named = 0;
  /** Sets that were refused since one was stored. */
  private inVain = 0;

  /** @param starts rows where another sender's may begin, in ascending order */
  constructor(rows: number, starts: readonly number[]) {
    this.starts = starts;
    this.sets.set(0, { number: 0, ranges: [[0, rows]], rows, named: 0 });
  }

  /** The set to be sent next; undefined when the search has ended. */
  next(): RowSet | undefined {
    let largest: RowSet | undefined;
    for (const set of this.sets.values()) if (largest === undefined || set.rows > largest.rows) largest = set;
    return largest;
  }

  /** A set is stored. */
  stored({ number }: RowSet): void {
    this.sets.delete(number);
    this.inVain = 0;
  }

  /** How a set that was refused is to be split; undefined if it is not. */
  splitOf({ number, ranges, rows }: RowSet, error: InsertError): Extract<SearchStep, { kind: 'split' }> | undefined {
    this.inVain++;
    if (rows === 1 || this.splits === MAX_SPLITS || this.inVain > MAX_IN_VAIN) return undefined;
    const row = violatedRow(error.message);
    if (row !== undefined && row < rows && this.named < MAX_NAMED && this.sets.get(number)!.named < MAX_NAMED_OF_SET) {
      return {
        kind: 'split',
        set: number,
        named: true,
        into: [[...slice(ranges, 0, row), ...slice(ranges, row + 1, rows)], slice(ranges, row, row + 1)],
      };
    }
    const middle = this.middleOf(ranges, rows);
    return { kind: 'split', set: number, named: false, into: [slice(ranges, 0, middle), slice(ranges, middle, rows)] };
  }

  /** Sends the parts of a set in its place. */
  split({ set, named, into }: Extract<SearchStep, { kind: 'split' }>): void {
    const before = this.sets.get(set)!;
    this.sets.delete(set);
    into.forEach((ranges, part) => {
      const number = this.splits * 2 + 1 + part;
      this.sets.set(number, { number, ranges, rows: countRows(ranges), named: named ? before.named + 1 : 0 });
    });
    this.splits++;
    if (named) this.named++;
  }

  /** A set is not split any more. */
  refuse({ number, ranges, rows }: RowSet, { error: { code, message }, server }: Refused): void {
    this.sets.delete(number);
    this.refused.push({ ranges, code, reason: message, server, decided: rows === 1 });
  }

  /** The number of rows before the start that is nearest to the middle of a set; of half of them, if there is none in it. */
  private middleOf(ranges: readonly RowRange[], rows: number): number {
    const half = rows >> 1;
    let best: number | undefined;
    for (const start of this.starts) {
      const before = ranges.reduce((sum, [from, to]) => sum + Math.max(0, Math.min(start, to) - from), 0);
      if (before > 0 && before < rows && (best === undefined || Math.abs(before - half) < Math.abs(best - half))) best = before;
    }
    return best ?? half;
  }

  /** The rows that are not stored, those of one code together. */
  result(): RefusedRows[] {
    const groups = Map.groupBy(this.refused, ({ code, decided }) => (decided ? code : 'undecided'));
    return Array.from(groups.values(), (group) => {
      const [{ code, reason, server, decided }] = group;
      return { code, reason, server, decided, ranges: joined(group.flatMap(({ ranges }) => ranges)) };
    });
  }
}

/** The rows from the `from`-th of the set on, up to and without the `to`-th. */
function slice(ranges: readonly RowRange[], from: number, to: number): RowRange[] {
  const taken: RowRange[] = [];
  let before = 0;
  for (const [start, end] of ranges) {
    const first = Math.max(start, start + from - before);
    const last = Math.min(end, start + to - before);
    if (first < last) taken.push([first, last]);
    before += end - start;
  }
  return taken;
}

/** In ascending order, what is adjacent as one. */
function joined(ranges: readonly RowRange[]): RowRange[] {
  const result: RowRange[] = [];
  for (const [from, to] of ranges.toSorted(([one], [other]) => one - other)) {
    const last = result.at(-1);
    if (last?.[1] === from) result[result.length - 1] = [last[0], to];
    else result.push([from, to]);
  }
  return result;
}
