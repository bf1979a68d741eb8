import { AttributeValue } from '../bytes/attribute-value.ts';
import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { Slice } from '../bytes/slice.ts';
import { appendRepaired, repairedLength } from '../bytes/utf8-repair.ts';
import type { Dialect } from '../columns/dialect.ts';
import type { LowCardinalityColumn } from '../columns/low-cardinality-column.ts';
import type { ProtobufCursor } from './protobuf-cursor.ts';
import { Document, readAnyValue, writeDocument } from './protobuf-value.ts';

/** Reads attributes. The last key is in `key`, the text of its value in `value`. */
export class ProtobufAttribute {
  readonly value = new AttributeValue();
  readonly key = new Slice();
  private readonly document = new Document();
  private readonly repairedKey = new ByteBuffer(64);
  private readonly cursor: ProtobufCursor;
  private readonly dialect: Dialect;

  constructor(cursor: ProtobufCursor, dialect: Dialect) {
    this.cursor = cursor;
    this.dialect = dialect;
  }

  /** Frees the memory of a large value. */
  release(): void {
    this.value.release();
    this.repairedKey.reset();
  }

  /**
   * Reads the attribute at the cursor, up to `end`.
   *
   *   KeyValue, common.proto: 1 key: string   2 value: AnyValue
   *
   * @param keyBytes if the key is known: the bytes up to its end, which are skipped
   * @param knownKey the number of that key
   * @returns the key's number in the dictionary of `keys`, or -1 for an attribute without a value, which is left out
   * @throws MalformedRequest
   */
  read(end: number, keys: LowCardinalityColumn, keyBytes = 0, knownKey = -1): number {
    const { cursor, dialect, value, key, document } = this;
    let known = keyBytes > 0 ? knownKey : -1;
    // A known key has a tag and a length of a byte each before it.
    key.set(cursor.source, cursor.at + 2, keyBytes > 0 ? keyBytes - 2 : 0);
    cursor.at += keyBytes;
    document.tag = 0;
    value.clear();
    while (cursor.at < end) {
      const tag = cursor.tag();
      if (tag === 0x0a) {
        cursor.slice(end, key);
        known = -1;
      } else if (tag === 0x12) {
        readAnyValue(cursor, cursor.fieldEnd(end), dialect, value, document);
      } else {
        cursor.skip(tag, end);
      }
    }
    cursor.expectEnd(end);
    if (document.tag !== 0) this.writeValue();
    if (!value.present && !dialect.keepEmptyValues) return -1;
    if (keys.textOnly) this.repairValue();
    if (known >= 0) return known;
    return keys.textOnly ? this.repairedKeyIn(keys) : keys.dictionary.indexOf(key.source, key.start, key.length);
  }

  /** Writes an array or kvlist as the value's text. */
  private writeValue(): void {
    const { cursor, dialect, value, document } = this;
    value.clear();
    writeDocument(value.scratch, cursor, document, dialect, 1);
    value.setScratch(0);
    document.clear();
  }

  /** Repairs the value's text if it is not UTF-8. Only a string_value can be invalid. */
  private repairValue(): void {
    const { value } = this;
    const { source, start, length, scratch } = value;
    if (source === scratch) return;
    const repaired = repairedLength(source.bytes, start, start + length);
    if (repaired < 0) return;
    scratch.length = 0;
    appendRepaired(scratch, source, start, length, repaired);
    value.setScratch(0);
  }

  /** Repairs the key if it is not UTF-8. @returns its number in the dictionary */
  private repairedKeyIn(keys: LowCardinalityColumn): number {
    const { repairedKey } = this;
    const { source, start, length } = this.key;
    const repaired = repairedLength(source.bytes, start, start + length);
    if (repaired < 0) return keys.dictionary.indexOf(source, start, length);
    repairedKey.length = 0;
    appendRepaired(repairedKey, source, start, length, repaired);
    return keys.dictionary.indexOf(repairedKey, 0, repaired);
  }
}
