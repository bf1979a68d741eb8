import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { LowCardinalityColumn } from './low-cardinality-column.ts';
import { OffsetsColumn } from './offsets-column.ts';

/** Up to this many keys, `lastUse` keeps its memory from block to block. */
const KEPT_KEYS = 8192;

/**
 * A Map(LowCardinality(String), String) column. A row is any number of calls of `put`, then one of `endRow`. Of a key that is twice in a
 * row, the last value is kept.
 */
export class AttributesColumn {
  readonly offsets = new OffsetsColumn();
  readonly keys = new LowCardinalityColumn();
  /** Native Strings, back to back. */
  readonly values = new ByteBuffer(16_384);
  /** By dictionary entry of `keys`: the number of the last element with that key, counted over the whole column. */
  private lastUse: Int32Array = new Int32Array(128).fill(-1);
  /** The length of `lastUse`. A field is faster to read than a typed array's length. */
  private lastUseLength = this.lastUse.length;
  private elements = 0;
  private rowElements = 0;
  private rowValues = 0;
  private duplicates = false;

  /** Appends an attribute to the row. @param key the number of its key in the dictionary */
  put(key: number, source: ByteBuffer, start: number, length: number): void {
    if (key >= this.lastUseLength) this.growLastUse(key);
    // Entries of a row that was rolled back can look like duplicates. `keepLast` then finds none.
    if (this.lastUse[key] >= this.rowElements) this.duplicates = true;
    this.lastUse[key] = this.elements++;
    this.keys.push(key);
    this.values.string(source, start, length);
  }

  /** Ends the row. */
  endRow(): void {
    if (this.duplicates) this.keepLast();
    this.offsets.push(this.elements);
    this.rowElements = this.elements;
    this.rowValues = this.values.length;
  }

  reset(): void {
    this.offsets.reset();
    this.keys.reset();
    this.values.reset();
    if (this.lastUseLength > KEPT_KEYS) this.lastUse = new Int32Array(KEPT_KEYS);
    this.lastUse.fill(-1);
    this.lastUseLength = this.lastUse.length;
    this.elements = 0;
    this.rowElements = 0;
    this.rowValues = 0;
    this.duplicates = false;
  }

  mark(): void {
    this.offsets.mark();
    this.keys.mark();
    this.values.mark();
  }

  rollback(): void {
    this.offsets.rollback();
    this.keys.rollback();
    this.values.rollback();
    this.elements = this.offsets.last;
    this.rowElements = this.elements;
    this.rowValues = this.values.length;
    this.duplicates = false;
  }

  /** Removes all elements of this row but the last one of each key. */
  private keepLast(): void {
    this.duplicates = false;
    const from = this.rowElements;
    for (let element = from; element < this.elements; element++) this.lastUse[this.keys.at(element)] = element;

    const { values } = this;
    const end = this.elements;
    const kept = this.keys;
    let read = this.rowValues;
    let write = this.rowValues;
    let writeElement = from;
    const used: number[] = [];
    for (let element = from; element < end; element++) {
      const next = endOfString(values, read);
      const key = kept.at(element);
      if (this.lastUse[key] === element) {
        values.bytes.copyWithin(write, read, next);
        write += next - read;
        used.push(key);
        writeElement++;
      }
      read = next;
    }
    values.length = write;
    this.elements = writeElement;
    kept.truncate(from);
    for (const [i, key] of used.entries()) {
      kept.push(key);
      this.lastUse[key] = from + i;
    }
  }

  private growLastUse(key: number): void {
    const grown = new Int32Array(Math.max(this.lastUse.length * 2, key + 1)).fill(-1);
    grown.set(this.lastUse);
    this.lastUse = grown;
    this.lastUseLength = grown.length;
  }
}

function endOfString(values: ByteBuffer, start: number): number {
  let at = start;
  let length = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = values.bytes[at++];
    length |= (byte & 0x7f) << shift;
    if (byte < 0x80) return at + length;
  }
}
