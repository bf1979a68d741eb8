import type { Refused } from '../queue/block-queue.ts';
import type { RefusedRows, SearchStep } from '../queue/search-step.ts';
import { violatedRow } from '../storage/exception-text.ts';
import type { InsertError } from '../storage/insert-error.ts';
import { countRows, type RowRange } from '../transcode/native/native-rows.ts';

/*
 * Finds the rows of a block that ClickHouse refuses, by bisection. Sets of rows are sent, the largest first. A stored set is done; a
 * refused set is split in two, until it is a single row: that row is refused.
 *
 * - A set is split at the boundary between two senders that is nearest to its middle, if there is one: the rows of other senders are
 *   then soon separated from those of a sender with many invalid rows.
 * - The exception of a constraint names a row. That row is then sent alone, and the rest of its set together: a few invalid rows cost
 *   one insert of all others. With many invalid rows, halving is faster.
 * - A block is split MAX_SPLITS times at most, and not after MAX_IN_VAIN sets in a row were refused. Refused sets of several rows then
 *   stay undecided.
 */

const MAX_SPLITS = 128;
const MAX_IN_VAIN = 64;

/** Most splits by a named row: of a set, before it is halved, and of a block. */
const MAX_NAMED_OF_SET = 3;
const MAX_NAMED = 32;

/** A set of rows. Its number is unique within its block. */
export interface RowSet {
  readonly number: number;
  /** Ascending, and not adjacent. */
  readonly ranges: readonly RowRange[];
  readonly rows: number;
}

interface Node extends RowSet {
  /** Splits by a named row since the last halving. */
  readonly named: number;
}

/** The state of the search in one block: the sets that are not sent yet, and the refused rows. */
export class RowSearch {
  private readonly starts: readonly number[];
  private readonly sets = new Map<number, Node>();
  private readonly refused: RefusedRows[] = [];
  private splits = 0;
  private named = 0;
  /** Sets that were refused since the last stored one. */
  private inVain = 0;

  /** @param starts rows at which another sender's rows may begin, ascending */
  constructor(rows: number, starts: readonly number[]) {
    this.starts = starts;
    this.sets.set(0, { number: 0, ranges: [[0, rows]], rows, named: 0 });
  }

  /** The set to send next; undefined when the search has ended. */
  next(): RowSet | undefined {
    let largest: RowSet | undefined;
    for (const set of this.sets.values()) if (largest === undefined || set.rows > largest.rows) largest = set;
    return largest;
  }

  /** Marks a set as stored. */
  stored({ number }: RowSet): void {
    this.sets.delete(number);
    this.inVain = 0;
  }

  /** The split of a set that was refused with `error`; undefined if it is not to be split further. */
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

  /** Replaces a set by its two parts. */
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

  /** Marks a set as refused: it is not split further. */
  refuse({ number, ranges, rows }: RowSet, { error: { code, message }, server }: Refused): void {
    this.sets.delete(number);
    this.refused.push({ ranges, code, reason: message, server, decided: rows === 1 });
  }

  /** The number of rows of a set before the sender boundary nearest to its middle; half of its rows if it has no boundary. */
  private middleOf(ranges: readonly RowRange[], rows: number): number {
    const half = rows >> 1;
    let best: number | undefined;
    for (const start of this.starts) {
      const before = ranges.reduce((sum, [from, to]) => sum + Math.max(0, Math.min(start, to) - from), 0);
      if (before > 0 && before < rows && (best === undefined || Math.abs(before - half) < Math.abs(best - half))) best = before;
    }
    return best ?? half;
  }

  /** The rows that are not stored, grouped by error code; undecided rows are one group. */
  result(): RefusedRows[] {
    const groups = Map.groupBy(this.refused, ({ code, decided }) => (decided ? code : 'undecided'));
    return Array.from(groups.values(), (group) => {
      const [{ code, reason, server, decided }] = group;
      return { code, reason, server, decided, ranges: joined(group.flatMap(({ ranges }) => ranges)) };
    });
  }
}

/** The rows of a set from its row number `from` up to, but not including, its row number `to`. */
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

/** Sorts ranges ascending, and merges adjacent ones. */
function joined(ranges: readonly RowRange[]): RowRange[] {
  const result: RowRange[] = [];
  for (const [from, to] of ranges.toSorted(([one], [other]) => one - other)) {
    const last = result.at(-1);
    if (last?.[1] === from) result[result.length - 1] = [last[0], to];
    else result.push([from, to]);
  }
  return result;
}
