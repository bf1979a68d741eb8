import { NativeCursor, NotANativeBlock } from '../transcode/native/native-cursor.ts';

/*
 * Reads the Native blocks that transcode/columns/native-block.ts writes (their layout is drawn there), for the command-line tools. It
 * supports only the types in these blocks, and is not optimized for speed.
 */

/** A value of a column. A String is a string, a 64-bit number a bigint, an Array an array, a Map an array of pairs. */
export type NativeValue = string | bigint | readonly NativeValue[];

/** A decoded block. */
export interface NativeBlock {
  readonly rows: number;
  /** The values of each column, one for each row, by the column's name. */
  readonly columns: ReadonlyMap<string, readonly NativeValue[]>;
}

type Type =
  | { readonly kind: 'u64' | 'string' | 'lowCardinality' }
  | { readonly kind: 'array'; readonly element: Type }
  | { readonly kind: 'map'; readonly key: Type; readonly value: Type };

/** Decodes all blocks in `bytes`. @throws NotANativeBlock */
export function readNativeBlocks(bytes: Buffer): NativeBlock[] {
  const reader = new NativeReader(bytes);
  const blocks: NativeBlock[] = [];
  while (!reader.isAtEnd) blocks.push(reader.block());
  return blocks;
}

class NativeReader extends NativeCursor {
  block(): NativeBlock {
    const columnCount = this.varint();
    const rows = this.varint();
    const columns = new Map<string, readonly NativeValue[]>();
    for (let i = 0; i < columnCount; i++) {
      const name = this.string();
      const type = parseType(this.string());
      if (rows > 0) this.prefix(type);
      columns.set(name, this.data(type, rows));
    }
    return { rows, columns };
  }

  /** Reads the version of each LowCardinality in the type: a u64, always 1. */
  private prefix(type: Type): void {
    switch (type.kind) {
      case 'lowCardinality':
        if (this.u64() !== 1n) throw new NotANativeBlock('a LowCardinality of another version');
        return;
      case 'array':
        this.prefix(type.element);
        return;
      case 'map':
        this.prefix(type.key);
        this.prefix(type.value);
        return;
      case 'u64':
      case 'string':
    }
  }

  private data(type: Type, rows: number): NativeValue[] {
    if (rows === 0) return [];
    switch (type.kind) {
      case 'u64':
        return this.times(rows, () => this.u64());
      case 'string':
        return this.times(rows, () => this.string());
      case 'lowCardinality':
        return this.lowCardinality(rows);
      case 'array': {
        const ends = this.offsets(rows);
        return sliced(this.data(type.element, ends.at(-1)!), ends);
      }
      case 'map':
      default: {
        const ends = this.offsets(rows);
        const keys = this.data(type.key, ends.at(-1)!);
        const values = this.data(type.value, ends.at(-1)!);
        return sliced(
          keys.map((key, i) => [key, values[i]]),
          ends,
        );
      }
    }
  }

  private lowCardinality(rows: number): NativeValue[] {
    const width = 1 << Number(this.u64() & 0xffn);
    const keys = this.times(this.count(), () => this.string());
    if (this.count() !== rows) throw new NotANativeBlock('a LowCardinality of another number of rows');
    return this.times(rows, () => keys[this.bytes.readUIntLE(this.skip(width), width)]);
  }

  private offsets(rows: number): number[] {
    return this.times(rows, () => this.count());
  }

  private times<T>(count: number, read: () => T): T[] {
    // Every value takes at least one byte, so a corrupt count can't allocate much memory.
    if (count > this.bytes.length - this.at) throw new NotANativeBlock('it ends too early');
    return Array.from({ length: count }, read);
  }

  private count(): number {
    return Number(this.u64());
  }

  private u64(): bigint {
    return this.bytes.readBigUInt64LE(this.skip(8));
  }

  private string(): string {
    return this.text('utf8');
  }
}

function sliced(elements: readonly NativeValue[], ends: readonly number[]): NativeValue[] {
  return ends.map((end, row) => elements.slice(row === 0 ? 0 : ends[row - 1], end));
}

function parseType(text: string): Type {
  if (text === 'String') return { kind: 'string' };
  if (text === 'UInt64' || text.startsWith('DateTime64(')) return { kind: 'u64' };
  if (text === 'LowCardinality(String)') return { kind: 'lowCardinality' };
  const inner = text.slice(text.indexOf('(') + 1, -1);
  if (text.startsWith('Array(')) return { kind: 'array', element: parseType(inner) };
  const comma = inner.indexOf(', ');
  if (text.startsWith('Map(') && comma > 0)
    return { kind: 'map', key: parseType(inner.slice(0, comma)), value: parseType(inner.slice(comma + 2)) };
  throw new NotANativeBlock(`a column of type ${text}`);
}
