import { isDeepStrictEqual } from 'node:util';
import type { ExpectedRow } from '../support/oracle/expected-rows.ts';
import type { Setting } from './sender.ts';

/** A line of the printed table. */
export interface Result {
  readonly sender: string;
  readonly encoding: string;
  readonly compression: string;
  readonly sent: number;
  readonly rows: number;
  readonly leftOut: string;
  /** What is wrong first, if anything is. */
  readonly difference?: string;
}

/** Holds the rows of the table against those of the sender; one that failed says why. */
export function resultOf(
  { name, encoding, compression, compared: { leftOut, expected, comparable } }: Setting,
  rows: readonly ExpectedRow[],
  failure?: string,
): Result {
  const difference = failure ?? firstDifference(comparable(rows), expected);
  return { sender: name, encoding, compression, sent: expected.length, rows: rows.length, leftOut, difference };
}

/** What tells stored rows from the expected ones; both in the same order. */
function firstDifference(stored: readonly ExpectedRow[], expected: readonly ExpectedRow[]): string | undefined {
  for (const [index, row] of expected.entries()) {
    const other = stored[index];
    if (other === undefined) return `${row.SpanName} is missing`;
    const column = Object.keys(row).find((name) => !isDeepStrictEqual(Reflect.get(row, name), Reflect.get(other, name)));
    if (column !== undefined) return `${column} of ${row.SpanName}: ${described(Reflect.get(other, column), Reflect.get(row, column))}`;
  }
  return stored.length > expected.length ? `${stored[expected.length].SpanName} is one too many` : undefined;
}

/** Of maps, only the keys that differ. */
function described(got: unknown, wanted: unknown): string {
  if (!isMap(got) || !isMap(wanted)) return `${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`;
  const key = Object.keys({ ...got, ...wanted }).find((name) => got[name] !== wanted[name]) ?? '';
  return `${key} is ${JSON.stringify(got[key])} instead of ${JSON.stringify(wanted[key])}`;
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function print(results: readonly Result[]): void {
  console.table(
    results.map(({ difference, leftOut, ...columns }) => ({ ...columns, equal: difference === undefined, 'but for': leftOut })),
  );
  for (const { sender, encoding, compression, difference } of results) {
    if (difference !== undefined) console.error(`${sender}, ${encoding}, ${compression}: ${difference}`);
  }
}
