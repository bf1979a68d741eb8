import { AttributeValue } from '../bytes/attribute-value.ts';
import { TextPattern } from '../bytes/text-pattern.ts';
import type { Dialect } from '../columns/dialect.ts';
import type { LowCardinalityColumn } from '../columns/low-cardinality-column.ts';
import type { JsonCursor } from './json-cursor.ts';
import { END } from './json-field-names.ts';
import { JsonString } from './json-string.ts';
import { KEY_VALUE, readAnyValue } from './json-value.ts';

const PLAIN_KEY = new TextPattern('{"key":"');
const PLAIN_VALUE = new TextPattern(',"value":{"stringValue":"');
const TWO_BRACES = 0x7d7d;

/**
 * Reads attributes. The text of the last value is in `value`. Nearly all attributes are plain, and fast to read:
 *
 *   {"key":"…","value":{"stringValue":"…"}}
 */
export class JsonAttribute {
  readonly value = new AttributeValue();
  /** Whether the last attribute is plain. */
  isPlain = false;
  private readonly key = new JsonString();
  private readonly cursor: JsonCursor;
  private readonly dialect: Dialect;

  constructor(cursor: JsonCursor, dialect: Dialect) {
    this.cursor = cursor;
    this.dialect = dialect;
  }

  /** Frees the memory of a large key or value. */
  release(): void {
    this.value.release();
    this.key.release();
  }

  /**
   * Reads the attribute at the cursor.
   *
   *   KeyValue, common.proto: 1 key: string   2 value: AnyValue
   *
   * @returns the key's number in the dictionary of `keys`, or -1 for an attribute without a value, which is left out
   * @throws MalformedRequest
   */
  read(keys: LowCardinalityColumn): number {
    const { cursor, dialect, key, value } = this;
    value.clear();
    this.isPlain = this.readPlain();
    if (!this.isPlain) {
      key.clear();
      for (let field = KEY_VALUE.first(cursor); field !== END; field = KEY_VALUE.next(cursor)) {
        if (field === 1) {
          key.read(cursor);
        } else if (field === 2) {
          value.clear();
          readAnyValue(cursor, dialect, value);
        } else {
          cursor.skip();
        }
      }
    }
    if (!value.present && !dialect.keepEmptyValues) return -1;
    return keys.dictionary.indexOf(key.source, key.start, key.length);
  }

  /**
   * Reads the rest of a plain attribute whose key is known.
   * @param start the offset of its value's text
   * @returns false if the attribute is not plain; then nothing is read
   */
  readPlainValue(start: number): boolean {
    const { cursor, value } = this;
    const { source, at } = cursor;
    cursor.at = start - 1;
    cursor.string();
    if (!cursor.escaped && source.view.getUint16(cursor.at, true) === TWO_BRACES) {
      cursor.at += 2;
      value.set(source, start, cursor.length);
      this.isPlain = true;
      return true;
    }
    cursor.at = at;
    return false;
  }

  /** Reads a plain attribute. @returns false if it is not plain; then nothing is read */
  private readPlain(): boolean {
    const { cursor, key } = this;
    const { source } = cursor;
    cursor.peek();
    const begin = cursor.at;
    if (!PLAIN_KEY.isAt(source.view, begin)) return false;
    cursor.at = begin + PLAIN_KEY.length - 1;
    cursor.string();
    if (!cursor.escaped && PLAIN_VALUE.isAt(source.view, cursor.at)) {
      key.set(source, cursor.start, cursor.length);
      if (this.readPlainValue(cursor.at + PLAIN_VALUE.length)) return true;
    }
    cursor.at = begin;
    return false;
  }
}
