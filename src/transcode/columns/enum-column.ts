import { ByteBuffer } from '../bytes/byte-buffer.ts';
import type { EnumNames } from './dialect.ts';

/** A LowCardinality(String) column whose few values are known beforehand: one byte a row. */
export class EnumColumn {
  readonly indexes = new ByteBuffer(4096);
  private readonly dictionary = new ByteBuffer(256);
  private readonly size: number;
  private readonly unknown: number;
  private readonly named: number;

  constructor(names: EnumNames) {
    this.size = names.values.length;
    this.unknown = names.unknown;
    this.named = names.values.filter((name) => name !== '').length;
    for (const value of names.values) {
      this.dictionary.varint(value.length);
      this.dictionary.ascii(value);
    }
  }

  /** Appends the value with number `value` in its enum. */
  push(value: number): void {
    this.indexes.byte(value >= 0 && value < this.named && Number.isInteger(value) ? value : this.unknown);
  }

  mark(): void {
    this.indexes.mark();
  }

  rollback(): void {
    this.indexes.rollback();
  }

  reset(): void {
    this.indexes.reset();
  }

  /** Appends the column's data to `out`, as low-cardinality-column.ts draws it, with indexes of a byte. */
  encode(out: ByteBuffer): void {
    if (this.indexes.length === 0) return;
    out.u64(0x200);
    out.u64(this.size);
    out.append(this.dictionary);
    out.u64(this.indexes.length);
    out.append(this.indexes);
  }
}
