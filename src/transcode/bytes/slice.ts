import { type ByteBuffer, NO_BYTES } from './byte-buffer.ts';

/** A range of a buffer: a text or an id of the request, without a copy. Created once, and set for each span. */
export class Slice {
  source: ByteBuffer = NO_BYTES;
  start = 0;
  length = 0;

  /** Sets it to an empty text. */
  clear(): void {
    this.length = 0;
  }

  /** Sets it to `length` bytes of `source`. */
  set(source: ByteBuffer, start: number, length: number): void {
    this.source = source;
    this.start = start;
    this.length = length;
  }
}
