import type { AttributeValue } from '../bytes/attribute-value.ts';
import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { sameBytes } from '../bytes/same-bytes.ts';
import type { SpanColumns } from '../columns/span-columns.ts';

/*
 * A cache of the attributes in the requests of the open block. A sender writes the same attributes in the same order in all spans of a
 * kind, often with the same values. So the bytes at the cursor are first compared with those of the attribute that was in the same context
 * before, and only parsed if they differ.
 *
 * The context is a hash of the span's name and the keys of its earlier attributes. A second hash is without the name, for names that are
 * new. Two contexts with the same hash do no harm: only equal bytes count as a known attribute.
 *
 * A record, in 32-bit words. Offsets and lengths are in bytes:
 *   0 generation   1 start   2 key length   3 length   4 key number   5 value offset   6 value length   7 unused
 *
 *     start      + key length                + length
 *     ├──────────┼───────────────────────────┤
 *     │   key    │   value                   │
 *
 * "key" are the first bytes of the attribute, up to the end of its key in the request's encoding.
 */
const RECORDS = 4096;
const RECORD_SHIFT = 32 - Math.log2(RECORDS);
const RECORD_WORDS = 8;
/** Bytes that are kept of values whose stored text is not in the request, such as arrays. */
const MAX_TEXT_BYTES = 262_144;
/** The multiplier of Fibonacci hashing, 2^32 ÷ the golden ratio: it spreads every bit into the upper ones. */
const MULTIPLIER = 0x9e3779b1;

/** The part of a known attribute that matches. */
export type Match = 'nothing' | 'key' | 'attribute';

/** The attributes of the open block's spans, by context. */
export class KnownAttributes {
  /** Set by `lookUp` on a match: the key's number in the dictionary, and the bytes up to its end. */
  key = 0;
  keyBytes = 0;
  /** Set by `lookUp` if the whole attribute matches: its length, and the position of its value in it. */
  length = 0;
  valueOffset = 0;
  valueLength = 0;
  /** A hash of the span's name and of the keys so far. */
  contextHash = 0;
  /** The same without the name. */
  private namelessHash = 0;
  /** Values whose stored text is not in the request. A negative value offset is `~offset` in this buffer. */
  readonly texts = new ByteBuffer(4096);
  private readonly records = new Int32Array(RECORDS * RECORD_WORDS);
  /** Records of another generation are invalid. Empty ones have 0. */
  private generation = 1;

  /** Clears the cache: positions and key numbers are valid within one block only. */
  reset(): void {
    this.generation = (this.generation + 1) | 0;
    this.texts.reset();
  }

  /** Starts the attributes of a span with this name, of which only the length and the first and last four bytes are hashed. */
  start(name: ByteBuffer, start: number, length: number): void {
    let hash = length;
    if (length >= 4) hash = Math.imul(hash ^ name.view.getInt32(start, true), MULTIPLIER) ^ name.view.getInt32(start + length - 4, true);
    this.contextHash = Math.imul(hash, MULTIPLIER);
    this.namelessHash = 0;
  }

  /** Compares the attribute that is known in this context with the `limit` bytes at `at`. */
  lookUp(view: DataView, at: number, limit: number): Match {
    const match = this.compare(this.contextHash, view, at, limit);
    return match === 'nothing' ? this.compare(this.namelessHash, view, at, limit) : match;
  }

  /** Writes the attribute that `lookUp` has found at `start` of the request to the open row, and advances to the next context. */
  repeat(columns: SpanColumns, request: ByteBuffer, start: number): void {
    const { key, valueOffset, valueLength } = this;
    if (key >= 0) {
      if (valueOffset >= 0) columns.spanAttribute(key, request, start + valueOffset, valueLength);
      else columns.spanAttribute(key, this.texts, ~valueOffset, valueLength);
    }
    this.advance(key, valueLength);
  }

  /**
   * Writes a parsed attribute to the open row, adds it to the cache, and advances to the next context.
   * @param key its key's number in the dictionary; -1 if the attribute is left out
   * @param keyBytes the bytes up to the end of its key, of its `length` bytes at `start` of the request
   */
  add(
    columns: SpanColumns,
    request: ByteBuffer,
    start: number,
    keyBytes: number,
    length: number,
    key: number,
    value: AttributeValue,
  ): void {
    if (key >= 0) columns.spanAttribute(key, value.source, value.start, value.length);
    this.remember(request, start, keyBytes, length, key, value);
    this.advance(key, value.length);
  }

  private remember(request: ByteBuffer, start: number, keyBytes: number, length: number, key: number, value: AttributeValue): void {
    // Fewer than eight bytes can't be compared.
    if (keyBytes < 8 || value.length > MAX_TEXT_BYTES) return;
    let valueOffset = value.start - start;
    if (value.source !== request) {
      if (this.texts.length + value.length > MAX_TEXT_BYTES) this.reset();
      valueOffset = ~this.texts.length;
      this.texts.copy(value.source, value.start, value.length);
    }
    this.write(this.contextHash, start, keyBytes, length, key, valueOffset, value.length);
    this.write(this.namelessHash, start, keyBytes, length, key, valueOffset, value.length);
  }

  /** Advances to the context of the next attribute, after one with this key and a value of this length. */
  advance(key: number, valueLength: number): void {
    this.contextHash = nextHash(this.contextHash, (valueLength << 16) ^ key);
    this.namelessHash = nextHash(this.namelessHash, key);
  }

  private compare(hash: number, view: DataView, at: number, limit: number): Match {
    const { records } = this;
    const record = recordOf(hash);
    if (records[record] !== this.generation) return 'nothing';
    const start = records[record + 1];
    const keyBytes = records[record + 2];
    const length = records[record + 3];
    if (keyBytes > limit || !sameBytes(view, start, at, keyBytes)) return 'nothing';
    this.key = records[record + 4];
    this.keyBytes = keyBytes;
    // `sameBytes` needs at least eight bytes: a shorter rest is compared together with some of the key.
    const rest = Math.min(keyBytes, length - 8);
    if (length > limit || !sameBytes(view, start + rest, at + rest, length - rest)) return 'key';
    this.length = length;
    this.valueOffset = records[record + 5];
    this.valueLength = records[record + 6];
    return 'attribute';
  }

  private write(
    hash: number,
    start: number,
    keyBytes: number,
    length: number,
    key: number,
    valueOffset: number,
    valueLength: number,
  ): void {
    const { records } = this;
    const record = recordOf(hash);
    records[record] = this.generation;
    records[record + 1] = start;
    records[record + 2] = keyBytes;
    records[record + 3] = length;
    records[record + 4] = key;
    records[record + 5] = valueOffset;
    records[record + 6] = valueLength;
  }
}

function recordOf(hash: number): number {
  return (hash >>> RECORD_SHIFT) * RECORD_WORDS;
}

function nextHash(hash: number, key: number): number {
  return Math.imul(hash ^ (hash >>> 15) ^ (key + 2), MULTIPLIER);
}
