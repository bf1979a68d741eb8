import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { Dictionary } from './dictionary.ts';

/** ClickHouse's LowCardinality index types, by bytes per index. */
const INDEX_TYPE: Readonly<Record<number, number>> = { 1: 0, 2: 1, 4: 2 };
const HAS_ADDITIONAL_KEYS = 0x200;

/**
 * A LowCardinality(String) column: a dictionary, and for each row an index into it, in as few bytes as the dictionary's size needs.
 *
 *   u64 flags: index type | 0x200   u64 keys   keys: String[]   u64 rows   indexes
 */
export class LowCardinalityColumn {
  readonly dictionary = new Dictionary();
  readonly indexes = new ByteBuffer(4096);
  /** Bytes per index: 1, 2 or 4. Grows until the next reset. */
  width = 1;
  /** For keys of attributes: whether they and their values must be UTF-8. */
  textOnly = false;
  private markedRows = 0;
  private markedSize = 0;

  get rows(): number {
    return this.indexes.length / this.width;
  }

  /** Appends a row. @returns its dictionary index */
  append(source: ByteBuffer, start: number, length: number): number {
    const index = this.dictionary.indexOf(source, start, length);
    this.push(index);
    return index;
  }

  /** Appends `rows` rows of the same value. */
  appendTimes(rows: number, source: ByteBuffer, start: number, length: number): void {
    if (rows === 0) return;
    this.append(source, start, length);
    this.indexes.repeatTail(this.width, rows - 1);
  }

  /** Appends a row by its dictionary index. */
  push(index: number): void {
    if (this.width === 1) {
      if (index < 0x100) return this.indexes.byte(index);
      this.widen();
    }
    this.indexes.reserve(4);
    if (this.width === 2) {
      if (index < 0x1_0000) {
        this.indexes.view.setUint16(this.indexes.length, index, true);
        this.indexes.length += 2;
        return;
      }
      this.widen();
      this.indexes.reserve(4);
    }
    this.indexes.view.setUint32(this.indexes.length, index, true);
    this.indexes.length += 4;
  }

  /** The dictionary index of a row. */
  at(row: number): number {
    const { view } = this.indexes;
    if (this.width === 1) return view.getUint8(row);
    return this.width === 2 ? view.getUint16(row * 2, true) : view.getUint32(row * 4, true);
  }

  /** Removes all rows from number `rows` on. The dictionary keeps its entries. */
  truncate(rows: number): void {
    this.indexes.length = rows * this.width;
  }

  mark(): void {
    this.markedRows = this.rows;
    this.markedSize = this.dictionary.size;
  }

  rollback(): void {
    this.truncate(this.markedRows);
    this.dictionary.truncate(this.markedSize);
  }

  reset(): void {
    this.dictionary.reset();
    this.indexes.reset();
    this.width = 1;
  }

  /** Appends the column's data to `out`, as drawn above. */
  encode(out: ByteBuffer): void {
    const { rows } = this;
    // ClickHouse reads nothing at all for a column of no rows.
    if (rows === 0) return;
    out.u64(INDEX_TYPE[this.width] | HAS_ADDITIONAL_KEYS);
    out.u64(this.dictionary.size);
    out.append(this.dictionary.keys);
    out.u64(rows);
    out.append(this.indexes);
  }

  private widen(): void {
    const { rows, indexes } = this;
    indexes.reserve(rows * this.width);
    const { view } = indexes;
    // From the end, so that no index is overwritten before it is copied.
    if (this.width === 1) {
      for (let row = rows - 1; row >= 0; row--) view.setUint16(row * 2, view.getUint8(row), true);
    } else {
      for (let row = rows - 1; row >= 0; row--) view.setUint32(row * 4, view.getUint16(row * 2, true), true);
    }
    indexes.length *= 2;
    this.width *= 2;
  }
}
