import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { TextPattern } from '../bytes/text-pattern.ts';
import { BRACE, COMMA, QUOTE, unescape, type JsonCursor } from './json-cursor.ts';

/** Returned by `first` and `next` at the end of an object. */
export const END = -1;

interface FieldName {
  readonly field: number;
  /** The key as JSON text: `"name":`. */
  readonly key: TextPattern;
  /** The same without the colon, which may follow after white space. */
  readonly quoted: TextPattern;
}

/** Longer keys are unknown ones: the longest name, `instrumentation_library_spans`, has 29 letters, each up to 6 bytes as an escape. */
const MAX_KEY_BYTES = 180;
const UNDERSCORE = 0x5f;
const LETTER_A = 0x61;
const LETTER_Z = 0x7a;
/** The difference between an upper-case and a lower-case letter. */
const CAPITAL = -0x20;

/**
 * The names of a message's fields in JSON, each with its field number in the .proto.
 *
 * Senders write the fields of a message always in the same order. So the field that followed this one last time is compared first, in a
 * few words, before a key is scanned.
 */
export class JsonFieldNames {
  private readonly names: readonly FieldName[];
  /** By field number: the field that followed it last. */
  private readonly following: FieldName[];
  private last = 0;
  private readonly rewritten = new ByteBuffer(64);

  constructor(fields: Readonly<Record<string, number>>) {
    const named = Object.entries(fields);
    this.names = named.map(([name, field]) => ({ field, key: new TextPattern(`"${name}":`), quoted: new TextPattern(`"${name}"`) }));
    this.following = Array.from({ length: Math.max(...Object.values(fields)) + 1 }, () => this.names[0]);
  }

  /** Enters an object, and reads the key of its first member and the colon. @returns as `next` */
  first(cursor: JsonCursor): number {
    if (!cursor.open(BRACE)) return END;
    cursor.peek();
    return this.key(cursor);
  }

  /**
   * Continues after a member's value: reads the key of the next member, in lowerCamelCase or snake_case, and the colon.
   * @returns the field's number; 0 for an unknown one; END, after leaving the object, if there is no further member
   * @throws MalformedRequest
   */
  next(cursor: JsonCursor): number {
    const { at } = cursor;
    const { view } = cursor.source;
    if (view.getUint8(at) === COMMA) {
      const guess = this.following[this.last];
      if (guess.key.isAt(view, at + 1)) {
        cursor.at = at + 1 + guess.key.length;
        this.last = guess.field;
        return guess.field;
      }
    }
    if (!cursor.more(BRACE)) return END;
    cursor.peek();
    return this.key(cursor);
  }

  private key(cursor: JsonCursor): number {
    const guess = this.following[this.last];
    if (guess.key.isAt(cursor.source.view, cursor.at)) {
      cursor.at += guess.key.length;
      this.last = guess.field;
      return guess.field;
    }
    return this.lookUp(cursor);
  }

  private lookUp(cursor: JsonCursor): number {
    cursor.key();
    const name = this.find(cursor.source, cursor.start, cursor.length) ?? this.findRewritten(cursor);
    if (name === undefined) return 0;
    this.following[this.last] = name;
    this.last = name.field;
    return name.field;
  }

  /** The field whose name is the `length` bytes at `start`, between quotes. */
  private find(source: ByteBuffer, start: number, length: number): FieldName | undefined {
    for (const name of this.names) if (name.quoted.length === length + 2 && name.quoted.isAt(source.view, start - 1)) return name;
    return undefined;
  }

  /** Looks up the key with its escapes resolved and in lowerCamelCase, if that changes it. */
  private findRewritten(cursor: JsonCursor): FieldName | undefined {
    const { source, start, length, escaped } = cursor;
    if (length > MAX_KEY_BYTES || (!escaped && !source.bytes.subarray(start, start + length).includes(UNDERSCORE))) return undefined;
    const { rewritten } = this;
    rewritten.reset();
    rewritten.byte(QUOTE);
    unescape(rewritten, source, start, length);
    toCamelCase(rewritten);
    rewritten.byte(QUOTE);
    return this.find(rewritten, 1, rewritten.length - 2);
  }
}

/** Converts snake_case to snakeCase, in the buffer itself. */
function toCamelCase(text: ByteBuffer): void {
  const { bytes, length } = text;
  text.length = 0;
  for (let at = 0; at < length; at++) {
    const next = at + 1 < length ? bytes[at + 1] : 0;
    if (bytes[at] === UNDERSCORE && next >= LETTER_A && next <= LETTER_Z) {
      text.byte(next + CAPITAL);
      at++;
    } else {
      text.byte(bytes[at]);
    }
  }
}
