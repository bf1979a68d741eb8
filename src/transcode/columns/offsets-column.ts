import { ByteBuffer } from '../bytes/byte-buffer.ts';

/** The offsets of an Array or Map column: per row, the number of elements in all rows up to and including it (UInt64). */
export class OffsetsColumn {
  readonly bytes = new ByteBuffer(4096);
  /** Elements so far. */
  last = 0;
  /** Elements at the last `mark`. */
  markedLast = 0;

  /** Appends a row, given the number of elements up to and including it. */
  push(elements: number): void {
    this.last = elements;
    this.bytes.u32Pair(elements, 0);
  }

  /** Appends `rows` rows of `elements` elements each. */
  pushEqual(rows: number, elements: number): void {
    for (let row = 0; row < rows; row++) this.push(this.last + elements);
  }

  mark(): void {
    this.bytes.mark();
    this.markedLast = this.last;
  }

  rollback(): void {
    this.bytes.rollback();
    this.last = this.markedLast;
  }

  reset(): void {
    this.bytes.reset();
    this.last = 0;
  }
}
