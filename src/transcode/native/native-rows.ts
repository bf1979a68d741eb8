import { setImmediate } from 'node:timers/promises';
import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { readU64 } from '../bytes/u64.ts';
import { repairUtf8 } from '../bytes/utf8-repair.ts';
import { lowCardinalitiesIn } from '../columns/native-block.ts';
import { NativeCursor, NotANativeBlock } from './native-cursor.ts';

/*
 * Copies rows out of a Native block, byte for byte, and repairs text that is not UTF-8. native-block.ts draws the layout. For each
 * column, only the offsets of the rows are kept.
 */

/** Rows from index `from` up to, but not including, index `to`. */
export type RowRange = readonly [from: number, to: number];

/** Values that are read or written in a step, and how long steps run in one tick of the event loop. */
const VALUES_PER_STEP = 4096;
const TICK_BUDGET_MS = 5;

const LOW_CARDINALITY_VERSION = 1;
const HAS_ADDITIONAL_KEYS = 0x200;

type Step = Generator<void, void>;

/** The data of a column, or of the elements of an array or map. */
interface Data {
  /** Whether a row has the same values as the one before it. May be false for equal values with different bytes. */
  repeats(row: number): boolean;
  /**
   * Appends the values of the rows.
   * @param repair whether text that is not UTF-8 is repaired
   * @param dropped the indexes of values in these rows that are left out
   */
  write(out: ByteBuffer, ranges: readonly RowRange[], repair: boolean, dropped: ReadonlySet<number>): Step;
}

interface Column {
  readonly name: string;
  readonly type: string;
  /** The number of prefixes of 8 bytes before the data: one for each LowCardinality in the type. */
  readonly prefixes: number;
  readonly data: Data;
}

/** The rows of one Native block. */
export class NativeRows {
  readonly rows: number;
  private readonly columns: readonly Column[];

  /** Reads a block, at most 5 ms at a time. @throws NotANativeBlock when the bytes are not exactly one block */
  static async parse(bytes: Buffer): Promise<NativeRows> {
    return acrossTicks(new Reader(bytes).block());
  }

  constructor(rows: number, columns: readonly Column[]) {
    this.rows = rows;
    this.columns = columns;
  }

  /**
   * Makes a block of these rows only, in ascending order. The same rows always give the same bytes.
   * @param repair columns in whose text invalid UTF-8 becomes U+FFFD
   */
  async select(ranges: readonly RowRange[], repair: ReadonlySet<string> = NONE): Promise<Buffer> {
    const out = new ByteBuffer(65_536);
    await acrossTicks(this.write(out, ranges, repair));
    return out.bytes.subarray(0, out.length);
  }

  /** The rows that have other values in a column than the row before. */
  changesIn(column: string): number[] {
    const data = this.columns.find(({ name }) => name === column)?.data;
    const changes: number[] = [];
    if (data === undefined) return changes;
    for (let row = 1; row < this.rows; row++) if (!data.repeats(row)) changes.push(row);
    return changes;
  }

  private *write(out: ByteBuffer, ranges: readonly RowRange[], repair: ReadonlySet<string>): Step {
    const rows = countRows(ranges);
    out.varint(this.columns.length);
    out.varint(rows);
    for (const { name, type, prefixes, data } of this.columns) {
      for (const text of [name, type]) {
        out.varint(text.length);
        out.ascii(text);
      }
      if (rows === 0) continue;
      for (let i = 0; i < prefixes; i++) out.u64(LOW_CARDINALITY_VERSION);
      yield* data.write(out, ranges, repair.has(name), NOTHING_DROPPED);
      yield;
    }
  }
}

/** The number of rows in the ranges. */
export function countRows(ranges: readonly RowRange[]): number {
  return ranges.reduce((sum, [from, to]) => sum + to - from, 0);
}

class Reader extends NativeCursor {
  *block(): Generator<void, NativeRows> {
    const columnCount = this.varint();
    const rows = this.varint();
    // No row takes less than the eight bytes of its time.
    if (rows === 0 || rows > this.bytes.length / 8) throw new NotANativeBlock('it has no such number of rows');
    const bounds = Uint32Array.from({ length: rows + 1 }, (_, row) => row);
    const columns: Column[] = [];
    for (let i = 0; i < columnCount; i++) {
      const name = this.text('latin1');
      const type = this.text('latin1');
      const prefixes = lowCardinalitiesIn(type);
      for (let prefix = 0; prefix < prefixes; prefix++) {
        if (this.u64() !== LOW_CARDINALITY_VERSION) throw new NotANativeBlock('a LowCardinality of another version');
      }
      columns.push({ name, type, prefixes, data: yield* this.data(type, bounds) });
      yield;
    }
    if (!this.isAtEnd) throw new NotANativeBlock('there is more behind it');
    return new NativeRows(rows, columns);
  }

  /** @param bounds the index of the first value of each row, and of the one after the last */
  private *data(type: string, bounds: Uint32Array): Generator<void, Data> {
    const values = bounds[bounds.length - 1];
    if (type === 'UInt64' || type.startsWith('DateTime64(')) {
      const start = this.skip(values * 8);
      return new FixedData(this.bytes, start, bounds);
    }
    if (type === 'String') return new StringData(this.bytes, yield* this.strings(bounds), bounds);
    if (type === 'LowCardinality(String)') return values === 0 ? EMPTY : yield* this.lowCardinality(bounds);
    const inner = type.slice(type.indexOf('(') + 1, -1);
    const types = type.startsWith('Array(') ? [inner] : type.startsWith('Map(') ? inner.split(/, (?=.)/) : [];
    if (types.length === 0 || types.length > 2) throw new NotANativeBlock(`a column of type ${type}`);
    const start = this.skip(values * 8);
    const elementBounds = this.elementBounds(start, bounds);
    const elements: Data[] = [];
    for (const elementType of types) elements.push(yield* this.data(elementType, elementBounds));
    return new ArrayData(this.bytes, start, bounds, elements, types.length === 2);
  }

  /** The index of the first element of each row, for an array whose offsets are at `start`. */
  private elementBounds(start: number, bounds: Uint32Array): Uint32Array {
    const elements = new Uint32Array(bounds.length);
    for (let row = 1; row < bounds.length; row++) {
      const end = bounds[row] === 0 ? 0 : readU64(this.bytes, start + (bounds[row] - 1) * 8);
      // No element takes less than a byte.
      if (end < elements[row - 1] || end > this.bytes.length) {
        throw new NotANativeBlock('an array that ends before it begins, or behind the block');
      }
      elements[row] = end;
    }
    return elements;
  }

  /** The offset of the first string of each row. */
  private *strings(bounds: Uint32Array): Generator<void, Uint32Array> {
    const starts = new Uint32Array(bounds.length);
    let row = 0;
    const values = bounds[bounds.length - 1];
    for (let value = 0; value <= values; value++) {
      while (row < bounds.length && bounds[row] === value) starts[row++] = this.at;
      if (value < values) this.skip(this.varint());
      if (value % VALUES_PER_STEP === 0) yield;
    }
    return starts;
  }

  private *lowCardinality(bounds: Uint32Array): Generator<void, Data> {
    const width = 1 << (this.u64() & 0xff);
    const keyCount = this.u64();
    if (width > 4 || keyCount > this.bytes.length) throw new NotANativeBlock('a LowCardinality with a dictionary of no such size');
    const keys = yield* this.strings(Uint32Array.from({ length: keyCount + 1 }, (_, key) => key));
    const values = bounds[bounds.length - 1];
    if (this.u64() !== values) throw new NotANativeBlock('a LowCardinality of another number of rows');
    const start = this.skip(values * width);
    return new LowCardinalityData(this.bytes, keys, start, width, bounds);
  }

  private u64(): number {
    return readU64(this.bytes, this.skip(8));
  }
}

const NOTHING_DROPPED: ReadonlySet<number> = new Set();

const EMPTY: Data = {
  repeats: () => true,
  *write() {
    yield;
  },
};

/** Whether a row has the same bytes as the row before. @param at returns the offset of a row */
function repeatsBytes(bytes: Buffer, row: number, at: (row: number) => number): boolean {
  const [before, start, end] = [at(row - 1), at(row), at(row + 1)];
  return start - before === end - start && bytes.compare(bytes, before, start, start, end) === 0;
}

class FixedData implements Data {
  private readonly bytes: Buffer;
  private readonly start: number;
  private readonly bounds: Uint32Array;

  constructor(bytes: Buffer, start: number, bounds: Uint32Array) {
    this.bytes = bytes;
    this.start = start;
    this.bounds = bounds;
  }

  repeats(row: number): boolean {
    return repeatsBytes(this.bytes, row, (each) => this.start + this.bounds[each] * 8);
  }

  *write(out: ByteBuffer, ranges: readonly RowRange[]): Step {
    for (const [from, to] of ranges) {
      out.appendBytes(this.bytes.subarray(this.start + this.bounds[from] * 8, this.start + this.bounds[to] * 8));
      yield;
    }
  }
}

class StringData implements Data {
  private readonly bytes: Buffer;
  /** The offset of the first string of each row. */
  private readonly starts: Uint32Array;
  private readonly bounds: Uint32Array;

  constructor(bytes: Buffer, starts: Uint32Array, bounds: Uint32Array) {
    this.bytes = bytes;
    this.starts = starts;
    this.bounds = bounds;
  }

  repeats(row: number): boolean {
    return repeatsBytes(this.bytes, row, (each) => this.starts[each]);
  }

  *write(out: ByteBuffer, ranges: readonly RowRange[], repair: boolean, dropped: ReadonlySet<number>): Step {
    for (const [from, to] of ranges) {
      const strings = this.bytes.subarray(this.starts[from], this.starts[to]);
      if (repair) yield* writeRepairedStrings(out, strings, this.bounds[from], dropped);
      else out.appendBytes(strings);
    }
  }
}

function* writeRepairedStrings(out: ByteBuffer, strings: Buffer, first: number, dropped: ReadonlySet<number>): Step {
  let value = first;
  for (let at = 0; at < strings.length; value++) {
    const { start, end } = stringAt(strings, at);
    at = end;
    if (dropped.has(value)) continue;
    const text = repairUtf8(strings.subarray(start, end));
    out.varint(text.length);
    out.appendBytes(text);
    if (value % VALUES_PER_STEP === 0) yield;
  }
}

class LowCardinalityData implements Data {
  private readonly bytes: Buffer;
  /** The offsets of the dictionary's keys, and of the end of the last one. */
  private readonly keys: Uint32Array;
  private readonly start: number;
  private readonly width: number;
  private readonly bounds: Uint32Array;

  constructor(bytes: Buffer, keys: Uint32Array, start: number, width: number, bounds: Uint32Array) {
    this.bytes = bytes;
    this.keys = keys;
    this.start = start;
    this.width = width;
    this.bounds = bounds;
  }

  repeats(row: number): boolean {
    return repeatsBytes(this.bytes, row, (each) => this.start + this.bounds[each] * this.width);
  }

  /** The new dictionary has only the keys of these rows: ClickHouse converts all keys of a dictionary, even unused ones. */
  *write(out: ByteBuffer, ranges: readonly RowRange[], repair: boolean, dropped: ReadonlySet<number>): Step {
    const { bounds } = this;
    const values = ranges.reduce((sum, [from, to]) => sum + bounds[to] - bounds[from], -dropped.size);
    if (values === 0) return;
    const numbers = new Int32Array(this.keys.length - 1).fill(-1);
    const repaired = new Map<string, number>();
    const keys = new ByteBuffer(4096);
    const indexes = new Uint32Array(values);
    let size = 0;
    let done = 0;
    for (const [from, to] of ranges) {
      for (let value = bounds[from]; value < bounds[to]; value++) {
        if (dropped.has(value)) continue;
        const key = this.keyOf(value);
        if (numbers[key] < 0) numbers[key] = repair ? this.addRepaired(keys, key, repaired) : this.add(keys, key, size);
        size = Math.max(size, numbers[key] + 1);
        indexes[done++] = numbers[key];
        if (done % VALUES_PER_STEP === 0) yield;
      }
    }
    const type = size <= 0x100 ? 0 : size <= 0x1_0000 ? 1 : 2;
    const packed = type === 0 ? Uint8Array.from(indexes) : type === 1 ? Uint16Array.from(indexes) : indexes;
    out.u64(type | HAS_ADDITIONAL_KEYS);
    out.u64(size);
    out.append(keys);
    out.u64(values);
    out.appendBytes(new Uint8Array(packed.buffer));
  }

  /** For each key of the dictionary, the first one that is equal after the repair; undefined if all differ. */
  sameWhenRepaired(): Uint32Array | undefined {
    const firsts = new Map<string, number>();
    const size = this.keys.length - 1;
    const same = new Uint32Array(size);
    for (let key = 0; key < size; key++) {
      const { start, end } = stringAt(this.bytes, this.keys[key]);
      // The decoder makes the same replacements as `repairUtf8`.
      const text = this.bytes.toString('utf8', start, end);
      same[key] = firsts.get(text) ?? key;
      if (same[key] === key) firsts.set(text, key);
    }
    return firsts.size === size ? undefined : same;
  }

  /** The number, in the dictionary, of the key of a value. */
  keyOf(value: number): number {
    const key = this.bytes.readUIntLE(this.start + value * this.width, this.width);
    if (key >= this.keys.length - 1) throw new NotANativeBlock('a LowCardinality without the key of a row');
    return key;
  }

  private add(keys: ByteBuffer, key: number, number: number): number {
    keys.appendBytes(this.bytes.subarray(this.keys[key], this.keys[key + 1]));
    return number;
  }

  /** Adds a repaired key, unless an equal one was added before. */
  private addRepaired(keys: ByteBuffer, key: number, numbers: Map<string, number>): number {
    const { start, end } = stringAt(this.bytes, this.keys[key]);
    const text = repairUtf8(this.bytes.subarray(start, end));
    const name = Buffer.from(text).toString();
    const known = numbers.get(name);
    if (known !== undefined) return known;
    keys.varint(text.length);
    keys.appendBytes(text);
    numbers.set(name, numbers.size);
    return numbers.size - 1;
  }
}

/** Array and Map. */
class ArrayData implements Data {
  private readonly bytes: Buffer;
  private readonly start: number;
  private readonly bounds: Uint32Array;
  private readonly elements: readonly Data[];
  private readonly isMap: boolean;

  constructor(bytes: Buffer, start: number, bounds: Uint32Array, elements: readonly Data[], isMap: boolean) {
    this.bytes = bytes;
    this.start = start;
    this.bounds = bounds;
    this.elements = elements;
    this.isMap = isMap;
  }

  /** True only if each row is a single array: the offsets of several arrays differ from row to row. */
  repeats(row: number): boolean {
    return this.bounds[row + 1] - this.bounds[row] === 1 && this.elements.every((element) => element.repeats(row));
  }

  *write(out: ByteBuffer, ranges: readonly RowRange[], repair: boolean): Step {
    const dropped = this.isMap && repair ? yield* this.repeatedKeys(ranges) : NOTHING_DROPPED;
    let end = 0;
    for (const [from, to] of ranges) {
      let last = this.bounds[from] === 0 ? 0 : this.endOf(this.bounds[from] - 1);
      for (let value = this.bounds[from]; value < this.bounds[to]; value++) {
        const next = this.endOf(value);
        end += next - last;
        if (dropped.size > 0) for (let element = last; element < next; element++) if (dropped.has(element)) end--;
        last = next;
        out.u64(end);
        if (value % VALUES_PER_STEP === 0) yield;
      }
    }
    for (const element of this.elements) yield* element.write(out, ranges, repair, dropped);
  }

  /**
   * Of keys in a map that are equal after the repair, the last one is kept, as with a key that is sent twice: a JSON column does not
   * accept the same path twice. @returns the indexes of the others
   */
  private *repeatedKeys(ranges: readonly RowRange[]): Generator<void, ReadonlySet<number>> {
    const [keys] = this.elements;
    const same = keys instanceof LowCardinalityData ? keys.sameWhenRepaired() : undefined;
    if (same === undefined) return NOTHING_DROPPED;
    const dropped = new Set<number>();
    for (const [from, to] of ranges) {
      for (let value = this.bounds[from]; value < this.bounds[to]; value++) {
        const begin = value === 0 ? 0 : this.endOf(value - 1);
        const later = new Set<number>();
        for (let element = this.endOf(value) - 1; element >= begin; element--) {
          const key = same[(keys as LowCardinalityData).keyOf(element)];
          if (later.has(key)) dropped.add(element);
          later.add(key);
        }
        if (value % 64 === 0) yield;
      }
    }
    return dropped;
  }

  private endOf(value: number): number {
    return readU64(this.bytes, this.start + value * 8);
  }
}

function stringAt(bytes: Buffer, at: number): { start: number; end: number } {
  let start = at;
  let length = 0;
  for (let scale = 1; ; scale *= 128) {
    const byte = bytes[start++];
    length += (byte & 0x7f) * scale;
    if (byte < 0x80) return { start, end: start + length };
  }
}

/** Runs the work to its end, for at most TICK_BUDGET_MS in each tick of the event loop. */
async function acrossTicks<T>(work: Generator<void, T>): Promise<T> {
  for (;;) {
    const tickEndsAtMs = performance.now() + TICK_BUDGET_MS;
    do {
      const step = work.next();
      if (step.done === true) return step.value;
    } while (performance.now() < tickEndsAtMs);
    await setImmediate();
  }
}

const NONE: ReadonlySet<string> = new Set();
