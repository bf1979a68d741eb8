import { zstdDecompressSync } from 'node:zlib';
import { readNativeBlocks, type NativeValue } from '../../../src/cli/native-reader.ts';
import type { ExpectedRow } from './expected-rows.ts';

/** A row as text, for comparison: columns and keys of maps are sorted. */
export function comparableRow(row: ExpectedRow): string {
  return JSON.stringify(
    Object.keys(row)
      .toSorted()
      .map((name): unknown => [name, comparable(Reflect.get(row, name))]),
  );
}

function comparable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(comparable);
  if (typeof value !== 'object' || value === null) return value;
  return Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : Number(one > other)));
}

/** The rows of a sealed block, as ClickHouse would return them. @param duplicates is given the maps that hold a key twice */
export function rowsInFrame(frame: Buffer, duplicates: unknown[]): ExpectedRow[] {
  const mapOf = (value: NativeValue): Record<string, string> => {
    const pairs = pairsOf(value);
    const map = Object.fromEntries(pairs);
    if (Object.keys(map).length < pairs.length) duplicates.push(pairs);
    return map;
  };
  return readNativeBlocks(zstdDecompressSync(frame)).flatMap(({ rows, columns }) =>
    Array.from({ length: rows }, (_, index): ExpectedRow => {
      const row = Object.fromEntries([...columns].map(([name, values]) => [name, columnValue(name, values[index], mapOf)]));
      // The columns are those of the table, which TypeScript can't check.
      return Object(row);
    }),
  );
}

function columnValue(name: string, value: NativeValue, mapOf: (value: NativeValue) => unknown): unknown {
  if (name.endsWith('Timestamp')) return mapped(value, (time) => String(BigInt.asIntN(64, BigInt(String(time)))));
  if (name.startsWith('Events.Attributes') || name.startsWith('Links.Attributes')) return mapped(value, mapOf);
  if (name.endsWith('Attributes')) return mapOf(value);
  return mapped(value, String);
}

function mapped(value: NativeValue, convert: (element: NativeValue) => unknown): unknown {
  return typeof value === 'object' ? value.map(convert) : convert(value);
}

function pairsOf(value: NativeValue): [string, string][] {
  if (typeof value !== 'object') throw new Error('no map');
  return value.map((pair) => (typeof pair === 'object' ? [String(pair[0]), String(pair[1])] : ['', '']));
}
