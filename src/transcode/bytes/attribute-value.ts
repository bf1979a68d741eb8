import { ByteBuffer } from './byte-buffer.ts';
import { writeHex } from './hex.ts';

/** The text of the last attribute value: its position in the request, or in `scratch`. */
export class AttributeValue {
  /** Whether there is a value. An empty AnyValue (`{}`) has none. */
  present = false;
  source: ByteBuffer;
  start = 0;
  length = 0;
  readonly scratch = new ByteBuffer(4096);

  constructor() {
    this.source = this.scratch;
  }

  /** Removes the value. */
  clear(): void {
    this.present = false;
    this.start = 0;
    this.length = 0;
    this.scratch.length = 0;
  }

  /** Frees the memory of a large value. */
  release(): void {
    this.clear();
    this.scratch.reset();
  }

  /** Sets it to `length` bytes of `source`. */
  set(source: ByteBuffer, start: number, length: number): void {
    this.present = true;
    this.source = source;
    this.start = start;
    this.length = length;
  }

  /** Sets it to the text in `scratch` from `start` on. */
  setScratch(start: number): void {
    this.set(this.scratch, start, this.scratch.length - start);
  }

  /** Sets it to ASCII text, which is written to `scratch`. */
  setAscii(text: string): void {
    this.clear();
    this.scratch.ascii(text);
    this.setScratch(0);
  }
}

/** Appends the bytes of a bytes_value as text. */
export function writeBytes(out: ByteBuffer, source: ByteBuffer, start: number, length: number, as: 'hex' | 'base64'): void {
  if (as === 'hex') writeHex(out, source, start, length);
  else out.ascii(source.bytes.toString('base64', start, start + length));
}
