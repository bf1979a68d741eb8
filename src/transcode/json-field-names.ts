import { ByteBuffer } from './byte-buffer.ts';
import { BRACE, COMMA, unescape, type JsonCursor } from './json-cursor.ts';
import { TextPattern } from './text-pattern.ts';

/** What stands for a field when there is none any more. */
export const END = -1;

interface FieldName {
  readonly field: number;
  /** The key as JSON text: `"name":`. */
  readonly key: TextPattern;
}

/**
 * The names of a message's fields in JSON, each with its field number in the .proto.
 *
 * Senders write the fields of a message in the same order each time. So the field that followed the one at hand last
 * time is tried first: a few words are compared, and nothing is scanned.
 */
export class JsonFieldNames {
  private readonly names: readonly FieldName[];
  /** By field number: what came behind it last. */
  private readonly following: FieldName[];
  private last = 0;
  private readonly rewritten = new ByteBuffer(64);

  constructor(fields: Readonly<Record<string, number>>) {
    this.names = Object.entries(fields).map(([name, field]) => ({ field, key: new TextPattern(`"${name}":`) }));
    this.following = Array.from({ length: Math.max(...Object.values(fields)) + 1 }, () => this.names[0]);
  }

  /** Enters an object, and reads its first member's key. As `next`. */
  first(cursor: JsonCursor): number {
    if (!cursor.open(BRACE)) return END;
    cursor.peek();
    return this.key(cursor);
  }

  /**
   * Goes on behind a member's value, and reads the next one's key and colon.
   * @returns the field it names, in lowerCamelCase or snake_case; 0 for an unknown one; END when the object is left
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
    const quote = cursor.at;
    cursor.key();
    const name = this.find(cursor.source, quote) ?? this.findRewritten(cursor);
    if (name === undefined) return 0;
    this.following[this.last] = name;
    this.last = name.field;
    return name.field;
  }

  private find(source: ByteBuffer, at: number): FieldName | undefined {
    return this.names.find((name) => name.key.isAt(source.view, at));
  }

  /** Looks the key up with its escapes resolved, in lowerCamelCase, and without white space before the colon. */
  private findRewritten(cursor: JsonCursor): FieldName | undefined {
    const { rewritten } = this;
    rewritten.reset();
    unescape(rewritten, cursor.source, cursor.start, cursor.length);
    const key = rewritten.bytes.toString('latin1', 0, rewritten.length);
    rewritten.reset();
    rewritten.ascii(`"${key.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())}":`);
    rewritten.zeroSlack();
    return this.find(rewritten, 0);
  }
}
