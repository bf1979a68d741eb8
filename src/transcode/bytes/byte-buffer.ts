import { freeBuffer } from '../../runtime/free-buffer.ts';
import { MalformedRequest } from './malformed-request.ts';

/** Bytes after the end of each buffer that may be read and written: copies move whole words, and a varint may be read beyond the end. */
const SLACK = 32;
/** Up to this length, copying eight bytes at a time is faster than a call of the native copy (measured on Node 26). */
const WORD_COPY_MAX = 256;
/** Up to this length, a loop over the characters is faster than the call that writes a string. */
const ASCII_LOOP_MAX = 48;
/** Up to this length, a loop over the bytes is faster than calls that double them. */
const REPEAT_LOOP_MAX = 256;
/** A buffer that has grown beyond this for a large request frees its memory at the next reset. */
const KEPT_BYTES = 4 * 1024 * 1024;

/** Bytes by which all buffers of this thread together may still grow. */
let growthLeft = Infinity;

/** Limits the growth of all buffers together from now on; beyond it they throw MalformedRequest. Without a number, removes the limit. */
export function limitGrowth(bytes = Infinity): void {
  growthLeft = bytes;
}

/**
 * A growable buffer, for everything that the transcoders read or write: request bodies, columns, dictionaries. Growing replaces `bytes`
 * and `view`, so neither may be kept across a write.
 */
export class ByteBuffer {
  bytes: Buffer;
  view: DataView;
  /** Bytes in use. */
  length = 0;
  /** Capacity in bytes. A field is faster to read than a typed array's length. */
  private capacity: number;
  private marked = 0;
  private readonly initialCapacity: number;

  constructor(capacity: number) {
    this.initialCapacity = capacity;
    this.capacity = capacity;
    this.bytes = Buffer.allocUnsafeSlow(capacity + SLACK);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset);
  }

  /** A buffer with a copy of `bytes`. */
  static from(bytes: Uint8Array): ByteBuffer {
    const buffer = new ByteBuffer(bytes.length);
    buffer.bytes.set(bytes);
    buffer.length = bytes.length;
    return buffer;
  }

  /** Ensures capacity for `count` more bytes. */
  reserve(count: number): void {
    if (this.length + count > this.capacity) this.grow(count);
  }

  private grow(count: number): void {
    const old = this.bytes;
    const capacity = Math.max(this.capacity * 2, this.length + count);
    growthLeft -= capacity - this.capacity;
    if (growthLeft < 0) throw new MalformedRequest('its spans take far more memory than its bytes');
    this.allocate(capacity);
    old.copy(this.bytes, 0, 0, this.length);
    freeBuffer(old);
  }

  private allocate(capacity: number): void {
    this.capacity = capacity;
    this.bytes = Buffer.allocUnsafeSlow(capacity + SLACK);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset);
  }

  /** Stores the length for `rollback`. */
  mark(): void {
    this.marked = this.length;
  }

  /** Returns to the length of the last `mark`. */
  rollback(): void {
    this.length = this.marked;
  }

  /** Empties the buffer, and frees its memory if it is large. */
  reset(): void {
    this.length = 0;
    this.marked = 0;
    if (this.capacity <= KEPT_BYTES || this.capacity <= this.initialCapacity) return;
    freeBuffer(this.bytes);
    this.allocate(this.initialCapacity);
  }

  /** Writes zeros after the end, for readers that must not find earlier bytes there. */
  zeroSlack(): void {
    this.bytes.fill(0, this.length, this.length + SLACK);
  }

  /** Appends a byte. */
  byte(value: number): void {
    if (this.length === this.capacity) this.grow(1);
    const at = this.length;
    this.view.setUint8(at, value);
    this.length = at + 1;
  }

  /** Appends a little-endian UInt64 below 2^53. */
  u64(value: number): void {
    this.u32Pair(value % 0x1_0000_0000, Math.floor(value / 0x1_0000_0000));
  }

  /** Appends a little-endian UInt64, given as signed 32-bit halves. */
  u32Pair(low: number, high: number): void {
    this.reserve(8);
    const { view, length: at } = this;
    view.setInt32(at, low, true);
    view.setInt32(at + 4, high, true);
    this.length = at + 8;
  }

  /** Appends a LEB128 varint below 2^32. */
  varint(value: number): void {
    this.reserve(5);
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.bytes[this.length++] = rest;
  }

  /** Appends `length` bytes of `source` from `start` on. */
  copy(source: ByteBuffer, start: number, length: number): void {
    this.reserve(length);
    const at = this.length;
    if (length > WORD_COPY_MAX) {
      source.bytes.copy(this.bytes, at, start, start + length);
    } else {
      const from = source.view;
      const to = this.view;
      for (let done = 0; done < length; done += 8) to.setBigUint64(at + done, from.getBigUint64(start + done, true), true);
    }
    this.length = at + length;
  }

  /** Appends a Native String: its length as a varint, then its bytes. */
  string(source: ByteBuffer, start: number, length: number): void {
    if (length >= 0x80) {
      this.varint(length);
      return this.copy(source, start, length);
    }
    // Most strings are short. Without calls they take half the time.
    this.reserve(length + 1);
    const from = source.view;
    const to = this.view;
    const at = this.length + 1;
    to.setUint8(at - 1, length);
    for (let done = 0; done < length; done += 8) to.setBigUint64(at + done, from.getBigUint64(start + done, true), true);
    this.length = at + length;
  }

  /** Appends ASCII text: constants and formatted numbers. */
  ascii(text: string): void {
    this.reserve(text.length);
    if (text.length > ASCII_LOOP_MAX) {
      this.length += this.bytes.write(text, this.length, 'latin1');
      return;
    }
    for (let i = 0; i < text.length; i++) this.bytes[this.length++] = text.charCodeAt(i);
  }

  /** Appends text as UTF-8. */
  utf8(text: string): void {
    this.reserve(text.length * 3);
    this.length += this.bytes.write(text, this.length);
  }

  /** Appends bytes that are not in a ByteBuffer. */
  appendBytes(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** Appends all bytes of `source`. */
  append(source: ByteBuffer): void {
    this.copy(source, 0, source.length);
  }

  /** Appends the last `length` bytes `times` more times. */
  repeatTail(length: number, times: number): void {
    let missing = length * times;
    this.reserve(missing);
    const start = this.length - length;
    if (missing <= REPEAT_LOOP_MAX) {
      const { bytes } = this;
      // Reads the bytes that it has just written, which repeats them.
      for (let from = start, end = start + missing; from < end; from++) bytes[from + length] = bytes[from];
      this.length += missing;
      return;
    }
    // Each copy doubles the bytes that the next one can copy.
    while (missing > 0) {
      const chunk = Math.min(missing, this.length - start);
      this.bytes.copyWithin(this.length, start, start + chunk);
      this.length += chunk;
      missing -= chunk;
    }
  }
}

/** The buffer of a cursor or slice that is not set yet. */
export const NO_BYTES = new ByteBuffer(0);
