import { type ByteBuffer, NO_BYTES } from '../bytes/byte-buffer.ts';
import { MAX_DEPTH, MalformedRequest } from '../bytes/malformed-request.ts';

/** Each level of a nested attribute value is four JSON values. So a value within MAX_DEPTH is not refused when it is skipped. */
const MAX_JSON_DEPTH = MAX_DEPTH * 5;

/**
 * Reads JSON text (RFC 8259), as strictly as JSON.parse. The text must be valid UTF-8, and be followed by zero bytes: so no string or
 * number can go beyond its end unnoticed. All methods throw MalformedRequest if the text does not have what they read.
 */
export class JsonCursor {
  source: ByteBuffer;
  /** The offset of the request in `source`, for positions in messages. */
  begin = 0;
  at = 0;
  /** The position of the last string or number: its raw text between the quotes, with escapes. */
  start = 0;
  length = 0;
  /** Whether that text has escapes. */
  escaped = false;

  /** @param source the text, if there is one already */
  constructor(source: ByteBuffer = NO_BYTES) {
    this.source = source;
  }

  /** Skips white space. @returns the byte at `at` then */
  peek(): number {
    const { view } = this.source;
    let byte = view.getUint8(this.at);
    if (byte > 0x20) return byte;
    while (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) byte = view.getUint8(++this.at);
    return byte;
  }

  /** Skips white space and this byte. */
  expect(byte: number): void {
    if (this.peek() !== byte) throw this.unexpected();
    this.at++;
  }

  /** Enters an object or array. If it is empty, leaves it and returns false. */
  open(bracket: number): boolean {
    this.expect(bracket);
    // The closing bracket's code is the opening one's + 2.
    if (this.peek() !== bracket + 2) return true;
    this.at++;
    return false;
  }

  /** Enters an array. If it is empty or null, leaves it and returns false. */
  openArray(): boolean {
    return !this.isNull() && this.open(BRACKET);
  }

  /** Advances to the next member or item. If there is none, leaves the object or array and returns false. */
  more(bracket: number): boolean {
    const byte = this.peek();
    this.at++;
    if (byte === COMMA) return true;
    if (byte === bracket + 2) return false;
    this.at--;
    throw this.unexpected();
  }

  /** Reads a member's key and the colon. */
  key(): void {
    if (this.peek() !== QUOTE) throw this.unexpected();
    this.string();
    this.expect(COLON);
  }

  /** Reads the string whose opening quote is at `at`. */
  string(): void {
    const { view } = this.source;
    let at = this.at + 1;
    this.start = at;
    this.escaped = false;
    for (;;) {
      // Four bytes at once: a byte's high bit is set in `hit` if it is a quote, a backslash or a control character. Only the lowest
      // such bit counts, as a borrow of the subtraction can set those above it.
      const word = view.getInt32(at, true);
      const quote = word ^ 0x22222222;
      const backslash = word ^ 0x5c5c5c5c;
      const hit = (((quote - 0x01010101) & ~quote) | ((backslash - 0x01010101) & ~backslash) | ((word - 0x20202020) & ~word)) & 0x80808080;
      if (hit === 0) {
        at += 4;
        continue;
      }
      at += (31 - Math.clz32(hit & -hit)) >> 3;
      const byte = view.getUint8(at);
      if (byte === QUOTE) break;
      this.at = at;
      if (byte !== BACKSLASH) throw this.unexpected();
      this.escaped = true;
      at = this.escapeEnd(at);
    }
    this.length = at - this.start;
    this.at = at + 1;
  }

  /** Reads the number at `at`, as text. */
  number(): void {
    const { bytes } = this.source;
    let at = this.at;
    this.start = at;
    if (bytes[at] === MINUS) at++;
    if (bytes[at] === ZERO) at++;
    else at = this.digits(at);
    if (bytes[at] === POINT) at = this.digits(at + 1);
    if ((bytes[at] | 0x20) === LETTER_E) {
      at++;
      if (bytes[at] === PLUS || bytes[at] === MINUS) at++;
      at = this.digits(at);
    }
    this.length = at - this.start;
    this.at = at;
  }

  /** The last string or number with its escapes resolved, as a JavaScript string: for short or rare texts. */
  text(): string {
    const { source, start, length } = this;
    const quoted = source.bytes[start - 1] === QUOTE;
    if (!quoted || !this.escaped) return source.bytes.toString('utf8', start, start + length);
    const text: string = JSON.parse(source.bytes.toString('utf8', start - 1, start + length + 1));
    return text;
  }

  /** Reads `true`, `false` or `null` at `at`; the one that starts with `first`. */
  literal(first: number): void {
    const text = first === LETTER_T ? 'true' : first === LETTER_F ? 'false' : 'null';
    for (let i = 0; i < text.length; i++) {
      if (this.source.bytes[this.at] !== text.charCodeAt(i)) throw this.unexpected();
      this.at++;
    }
  }

  /** Skips a `null` if there is one. */
  isNull(): boolean {
    if (this.peek() !== LETTER_N) return false;
    this.literal(LETTER_N);
    return true;
  }

  /** Skips the next value, of any kind. */
  skip(depth = 0): void {
    if (depth > MAX_JSON_DEPTH) throw new MalformedRequest(`JSON values are nested deeper than ${MAX_JSON_DEPTH}`);
    const byte = this.peek();
    switch (byte) {
      case QUOTE:
        return this.string();
      case BRACE:
      case BRACKET:
        if (!this.open(byte)) return;
        do {
          if (byte === BRACE) this.key();
          this.skip(depth + 1);
        } while (this.more(byte));
        return;
      case LETTER_T:
      case LETTER_F:
      case LETTER_N:
        return this.literal(byte);
      default:
        return this.number();
    }
  }

  /** Makes the error for the character at `at`. */
  unexpected(): MalformedRequest {
    if (this.at >= this.source.length) return new MalformedRequest('the JSON text ends too early');
    return new MalformedRequest(`unexpected ${describeByte(this.source.bytes[this.at])} in the JSON text at byte ${this.at - this.begin}`);
  }

  private digits(from: number): number {
    const { bytes } = this.source;
    let at = from;
    while (bytes[at] >= ZERO && bytes[at] <= ZERO + 9) at++;
    if (at === from) {
      this.at = at;
      throw this.unexpected();
    }
    return at;
  }

  private escapeEnd(at: number): number {
    const { bytes } = this.source;
    const letter = bytes[at + 1];
    if (letter !== LETTER_U) {
      if (letter < 0x80 && SHORT_ESCAPES[letter] !== 0) return at + 2;
      throw this.unexpected();
    }
    for (let i = at + 2; i < at + 6; i++) if (hexValue(bytes[i]) < 0) throw this.unexpected();
    return at + 6;
  }
}

/** Appends the raw text of a JSON string with its escapes resolved, as UTF-8. A lone surrogate becomes U+FFFD. */
export function unescape(out: ByteBuffer, source: ByteBuffer, start: number, length: number): void {
  const { bytes } = source;
  const end = start + length;
  let copied = start;
  let at = start;
  while (at < end) {
    if (bytes[at] !== BACKSLASH) {
      at++;
      continue;
    }
    out.copy(source, copied, at - copied);
    const letter = bytes[at + 1];
    if (letter === LETTER_U) {
      let code = codeUnit(bytes, at + 2);
      at += 6;
      if (code >= 0xd800 && code < 0xe000) {
        const next = code < 0xdc00 && at + 6 <= end && bytes[at] === BACKSLASH && bytes[at + 1] === LETTER_U ? codeUnit(bytes, at + 2) : 0;
        if (next >= 0xdc00 && next < 0xe000) {
          code = 0x10000 + ((code - 0xd800) << 10) + (next - 0xdc00);
          at += 6;
        } else {
          code = 0xfffd;
        }
      }
      writeCodePoint(out, code);
    } else {
      out.byte(SHORT_ESCAPES[letter]);
      at += 2;
    }
    copied = at;
  }
  out.copy(source, copied, end - copied);
}

function codeUnit(bytes: Buffer, at: number): number {
  return (hexValue(bytes[at]) << 12) | (hexValue(bytes[at + 1]) << 8) | (hexValue(bytes[at + 2]) << 4) | hexValue(bytes[at + 3]);
}

function writeCodePoint(out: ByteBuffer, code: number): void {
  if (code < 0x80) return out.byte(code);
  if (code < 0x800) {
    out.byte(0xc0 | (code >> 6));
  } else {
    if (code < 0x10000) {
      out.byte(0xe0 | (code >> 12));
    } else {
      out.byte(0xf0 | (code >> 18));
      out.byte(0x80 | ((code >> 12) & 0x3f));
    }
    out.byte(0x80 | ((code >> 6) & 0x3f));
  }
  out.byte(0x80 | (code & 0x3f));
}

function hexValue(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}

function describeByte(byte: number): string {
  return byte > 0x20 && byte < 0x7f ? `'${String.fromCharCode(byte)}'` : `byte 0x${byte.toString(16).padStart(2, '0')}`;
}

/** By letter: the character that it means after a backslash; 0 if it is no escape. */
const SHORT_ESCAPES = new Uint8Array(128);
for (const [letter, character] of [
  ['"', '"'],
  ['\\', '\\'],
  ['/', '/'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]) {
  SHORT_ESCAPES[letter.charCodeAt(0)] = character.charCodeAt(0);
}

export const QUOTE = 0x22;
export const BRACKET = 0x5b;
export const BRACE = 0x7b;
export const BRACE_CLOSE = 0x7d;
export const MINUS = 0x2d;
export const ZERO = 0x30;
export const LETTER_T = 0x74;
export const LETTER_F = 0x66;
export const LETTER_N = 0x6e;
export const COMMA = 0x2c;
const COLON = 0x3a;
const PLUS = 0x2b;
const POINT = 0x2e;
const BACKSLASH = 0x5c;
const LETTER_E = 0x65;
const LETTER_U = 0x75;
