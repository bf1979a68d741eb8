import { type ByteBuffer, NO_BYTES } from './byte-buffer.ts';

/** Some bytes of a buffer, given by where they lie: a text or an id of the request, without a copy. Made once, and set for each span. */
export class Slice {
  source: ByteBuffer = NO_BYTES;
  start = 0;
  length = 0;

  /** Makes it an empty text. */
  clear(): void {
    this.length = 0;
  }

  set(source: ByteBuffer, start: number, length: number): void {
    this.source = source;
    this.start = start;
    this.length = length;
  }
}
