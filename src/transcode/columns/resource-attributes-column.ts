import type { ByteBuffer } from '../bytes/byte-buffer.ts';
import { MalformedRequest } from '../bytes/malformed-request.ts';
import { LowCardinalityColumn } from './low-cardinality-column.ts';
import { OffsetsColumn } from './offsets-column.ts';

/*
 * A resource's attributes are repeated in the row of each of its spans. So the size of a request limits the elements that it may add.
 * Four per byte allow a hundred attributes on spans of 25 bytes; real spans are larger.
 */
const MAX_ELEMENTS_PER_BYTE = 4;
const ALWAYS_ALLOWED = 1 << 16;
const MAX_ELEMENTS = 1 << 25;
/** Up to this many attributes, the open row keeps its memory from block to block. */
const KEPT_ATTRIBUTES = 8192;

/**
 * A Map(LowCardinality(String), LowCardinality(String)) column, which ClickHouse converts to the table's Map(LowCardinality(String),
 * String). All spans of a resource have the same row: its attributes are collected once, as dictionary indexes (`put`), and written
 * for all of the spans by `endRows`.
 */
export class ResourceAttributesColumn {
  readonly offsets = new OffsetsColumn();
  readonly keys = new LowCardinalityColumn();
  readonly values = new LowCardinalityColumn();
  private rowKeys: Int32Array = new Int32Array(64);
  private rowValues: Int32Array = new Int32Array(64);
  /** Attributes in the open row. */
  count = 0;
  /** Elements that this request may add. */
  private maxElements = 0;
  /** By dictionary entry of `keys`: the last index of the key in the row. Valid only if `rowKeys` has the key there. */
  private position: Int32Array = new Int32Array(128);

  /** Sets the limit for the next request from its size in bytes. */
  beginRequest(bodyBytes: number): void {
    this.maxElements = Math.min(MAX_ELEMENTS, ALWAYS_ALLOWED + bodyBytes * MAX_ELEMENTS_PER_BYTE);
  }

  /** Adds an attribute to the open row. An existing key gets the new value. */
  put(key: number, source: ByteBuffer, start: number, length: number): void {
    this.putIndex(key, this.values.dictionary.indexOf(source, start, length));
  }

  /** Does the same, with the value's dictionary index. */
  putIndex(key: number, value: number): void {
    if (key >= this.position.length) this.position = grown(this.position, key + 1);
    const at = this.position[key];
    if (at < this.count && this.rowKeys[at] === key) {
      this.rowValues[at] = value;
      return;
    }
    if (this.count === this.rowKeys.length) {
      this.rowKeys = grown(this.rowKeys, this.count + 1);
      this.rowValues = grown(this.rowValues, this.count + 1);
    }
    this.position[key] = this.count;
    this.rowKeys[this.count] = key;
    this.rowValues[this.count] = value;
    this.count++;
  }

  /** The dictionary index of a key's value in the open row, or -1. */
  valueOf(key: number): number {
    const at = this.position[key];
    return at < this.count && this.rowKeys[at] === key ? this.rowValues[at] : -1;
  }

  /** Copies the open row: the dictionary indexes of its keys, and of their values. */
  copyRow(keys: Int32Array, values: Int32Array): void {
    for (let i = 0; i < this.count; i++) {
      keys[i] = this.rowKeys[i];
      values[i] = this.rowValues[i];
    }
  }

  /**
   * Writes the open row `rows` times, and starts the next one.
   * @throws MalformedRequest when the request then has more elements than its size allows
   */
  endRows(rows: number): void {
    const { count, keys, values } = this;
    if (this.offsets.last - this.offsets.markedLast + count * rows > this.maxElements) {
      throw new MalformedRequest(`${count} resource attributes on ${rows} spans are more than a request of its size may have in all`);
    }
    this.count = 0;
    if (rows === 0) return;
    for (let i = 0; i < count; i++) {
      keys.push(this.rowKeys[i]);
      values.push(this.rowValues[i]);
    }
    keys.indexes.repeatTail(count * keys.width, rows - 1);
    values.indexes.repeatTail(count * values.width, rows - 1);
    this.offsets.pushEqual(rows, count);
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
    this.count = 0;
  }

  reset(): void {
    this.offsets.reset();
    this.keys.reset();
    this.values.reset();
    this.count = 0;
    if (this.rowKeys.length > KEPT_ATTRIBUTES) {
      this.rowKeys = new Int32Array(KEPT_ATTRIBUTES);
      this.rowValues = new Int32Array(KEPT_ATTRIBUTES);
    }
    if (this.position.length > KEPT_ATTRIBUTES) this.position = new Int32Array(KEPT_ATTRIBUTES);
  }
}

function grown(old: Int32Array, least: number): Int32Array {
  const larger = new Int32Array(Math.max(old.length * 2, least));
  larger.set(old);
  return larger;
}
