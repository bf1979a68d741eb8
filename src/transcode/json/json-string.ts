import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { Slice } from '../bytes/slice.ts';
import { type JsonCursor, unescape } from './json-cursor.ts';
import { readString } from './json-value.ts';

/** The text of a JSON string: in the request if it has no escapes, otherwise a copy with its escapes resolved. */
export class JsonString extends Slice {
  /** Whether it is known to consist of lower-case hex digits. */
  isHex = false;
  private readonly unescaped = new ByteBuffer(256);

  override clear(): void {
    this.length = 0;
    this.isHex = false;
  }

  /** Sets it to a text of lower-case hex digits. */
  setHex(source: ByteBuffer, start: number, digits: number): void {
    this.set(source, start, digits);
    this.isHex = true;
  }

  /** Frees the memory of a large text. */
  release(): void {
    this.clear();
    this.unescaped.reset();
  }

  /** Reads the string at the cursor; null is ''. @throws MalformedRequest when it is neither */
  read(cursor: JsonCursor): void {
    this.clear();
    if (cursor.isNull()) return;
    readString(cursor);
    if (cursor.escaped) {
      this.unescaped.reset();
      unescape(this.unescaped, cursor.source, cursor.start, cursor.length);
      this.set(this.unescaped, 0, this.unescaped.length);
    } else {
      this.set(cursor.source, cursor.start, cursor.length);
    }
  }
}
