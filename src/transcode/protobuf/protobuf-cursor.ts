import { type ByteBuffer, NO_BYTES } from '../bytes/byte-buffer.ts';
import { MAX_DEPTH, MalformedRequest } from '../bytes/malformed-request.ts';
import type { Slice } from '../bytes/slice.ts';

/**
 * Reads protobuf's wire format (protobuf.dev/programming-guides/encoding). Readers loop `while (at < end)` and then call
 * `expectEnd(end)`: a varint may run a few bytes past `end`, into the buffer's slack, before that is noticed. All methods throw
 * MalformedRequest.
 */
export class ProtobufCursor {
  source: ByteBuffer;
  /** The offset of the request in `source`, for positions in messages. */
  begin = 0;
  at = 0;
  /** The last 64-bit value, as signed 32-bit halves. */
  low = 0;
  high = 0;

  /** @param source the bytes, if there are some already */
  constructor(source: ByteBuffer = NO_BYTES) {
    this.source = source;
  }

  /** Reads a tag: field number << 3 | wire type, 32 bits in any number of bytes. */
  tag(): number {
    const first = this.source.view.getUint8(this.at);
    if (first < 0x80) {
      this.at++;
      return first;
    }
    this.varint();
    if (this.high !== 0) throw new MalformedRequest(`a field at byte ${this.at} has too large a number`);
    return this.low >>> 0;
  }

  /** Reads a length. @returns the offset of the end of the field, which then starts at `at` */
  fieldEnd(end: number): number {
    let length = this.source.view.getUint8(this.at);
    if (length < 0x80) {
      this.at++;
    } else {
      this.varint();
      length = this.high === 0 ? this.low >>> 0 : Number.POSITIVE_INFINITY;
    }
    const fieldEnd = this.at + length;
    if (fieldEnd > end) throw this.tooLong();
    return fieldEnd;
  }

  /** Reads a field of text or bytes, and sets `out` to its position. */
  slice(end: number, out: Slice): void {
    const fieldEnd = this.fieldEnd(end);
    const { at } = this;
    out.start = at;
    out.length = fieldEnd - at;
    // A comparison is cheaper than a write, which needs a barrier for V8's garbage collector.
    if (out.source !== this.source) out.source = this.source;
    this.at = fieldEnd;
  }

  /** Reads a field of text or bytes. @returns its length; the field then ends at `at` */
  bytes(end: number): number {
    const fieldEnd = this.fieldEnd(end);
    const length = fieldEnd - this.at;
    this.at = fieldEnd;
    return length;
  }

  /** Reads a varint of up to 64 bits into `low` and `high`. */
  varint(): void {
    const { view } = this.source;
    let { at } = this;
    let byte = view.getUint8(at++);
    let low = byte & 0x7f;
    let high = 0;
    let shift = 7;
    while (byte >= 0x80) {
      if (shift > 63) throw new MalformedRequest(`a varint at byte ${this.at - this.begin} is longer than ten bytes`);
      byte = view.getUint8(at++);
      const bits = byte & 0x7f;
      if (shift < 28) {
        low |= bits << shift;
      } else if (shift === 28) {
        low |= bits << 28;
        high = bits >> 4;
      } else {
        high |= bits << (shift - 32);
      }
      shift += 7;
    }
    this.at = at;
    this.low = low;
    this.high = high;
  }

  /** Reads eight bytes into `low` and `high`. */
  fixed64(end: number): void {
    if (this.at + 8 > end) throw this.truncated(this.at);
    this.low = this.source.view.getInt32(this.at, true);
    this.high = this.source.view.getInt32(this.at + 4, true);
    this.at += 8;
  }

  /** Reads a double. */
  double(end: number): number {
    if (this.at + 8 > end) throw this.truncated(this.at);
    this.at += 8;
    return this.source.view.getFloat64(this.at - 8, true);
  }

  /** Skips the field whose tag was just read: it is unknown, or has a wrong wire type. */
  skip(tag: number, end: number, depth = 0): void {
    if (tag >>> 3 === 0) throw new MalformedRequest(`a field at byte ${this.at - this.begin} has the number 0`);
    switch (tag & 7) {
      case 0:
        return this.varint();
      case 1:
        this.at += 8;
        break;
      case 2:
        this.at = this.fieldEnd(end);
        break;
      case 3:
        return this.skipGroup(tag, end, depth + 1);
      case 5:
        this.at += 4;
        break;
      default:
        throw new MalformedRequest(`a field at byte ${this.at - this.begin} has the unknown wire type ${tag & 7}`);
    }
    if (this.at > end) throw this.truncated(end);
  }

  /** Checks that the message ends where its last field does. */
  expectEnd(end: number): void {
    if (this.at !== end) throw this.truncated(end);
  }

  private skipGroup(start: number, end: number, depth: number): void {
    if (depth > MAX_DEPTH) throw new MalformedRequest(`groups are nested deeper than ${MAX_DEPTH}`);
    while (this.at < end) {
      const tag = this.tag();
      if ((tag & 7) !== 4) this.skip(tag, end, depth);
      else if (tag >>> 3 === start >>> 3) return;
      else break;
    }
    throw new MalformedRequest(`a group at byte ${this.at - this.begin} has no end`);
  }

  private tooLong(): MalformedRequest {
    return new MalformedRequest(`a field at byte ${this.at - this.begin} is longer than the message it is in`);
  }

  private truncated(at: number): MalformedRequest {
    return new MalformedRequest(`a message ends inside a field at byte ${at - this.begin}`);
  }
}
