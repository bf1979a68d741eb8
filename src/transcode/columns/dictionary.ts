import { ByteBuffer } from '../bytes/byte-buffer.ts';

/**
 * A crafted flood of equal hashes must not turn look-ups into a walk of the table. Past this many probes an entry is
 * added without being findable: ClickHouse merges equal dictionary keys itself.
 */
const MAX_PROBES = 64;
/** Unpredictable, so that nobody can prepare strings of equal hash. */
const SEED = Math.floor(Math.random() * 0x1_0000_0000) | 0;
const INITIAL_ENTRIES = 128;

/**
 * The distinct strings of a LowCardinality column within one block, numbered in the order of their first use.
 * `keys` is what ClickHouse reads: each entry as a Native String, back to back.
 */
export class Dictionary {
  readonly keys = new ByteBuffer(4096);
  size = 0;
  private starts: Int32Array = new Int32Array(INITIAL_ENTRIES);
  private lengths: Int32Array = new Int32Array(INITIAL_ENTRIES);
  private hashes: Int32Array = new Int32Array(INITIAL_ENTRIES);
  /** Open addressing with linear probing; holds entry + 1, 0 is empty. At most half full. */
  private slots: Int32Array = new Int32Array(INITIAL_ENTRIES * 2);
  private mask = INITIAL_ENTRIES * 2 - 1;

  /** The number of the string at `source[start, start + length)`, added if it is new. */
  indexOf(source: ByteBuffer, start: number, length: number): number {
    const hash = hashOf(source.view, start, length);
    const { mask } = this;
    let slot = hash & mask;
    for (let probes = 0; probes < MAX_PROBES; probes++) {
      const entry = this.slots[slot] - 1;
      if (entry < 0) return this.add(source, start, length, hash, true);
      if (this.hashes[entry] === hash && this.isAt(entry, source.view, start, length)) return entry;
      slot = (slot + 1) & mask;
    }
    return this.add(source, start, length, hash, false);
  }

  /** Whether entry number `entry` is the string at `start` of `view`. */
  isAt(entry: number, view: DataView, start: number, length: number): boolean {
    if (this.lengths[entry] !== length) return false;
    const keys = this.keys.view;
    const key = this.starts[entry];
    let i = 0;
    for (; i + 4 <= length; i += 4) if (keys.getInt32(key + i, true) !== view.getInt32(start + i, true)) return false;
    return i === length || ((keys.getInt32(key + i, true) ^ view.getInt32(start + i, true)) & tailMask(length - i)) === 0;
  }

  /** Where in `keys` the text of entry number `entry` starts. */
  start(entry: number): number {
    return this.starts[entry];
  }

  /** Bytes of the text of entry number `entry`. */
  length(entry: number): number {
    return this.lengths[entry];
  }

  /** Forgets every entry from number `size` on. */
  truncate(size: number): void {
    const { mask } = this;
    // Newest first: the slot a removed entry frees is then never in the middle of another's probe path.
    for (let entry = this.size - 1; entry >= size; entry--) {
      let slot = this.hashes[entry] & mask;
      for (let probes = 0; probes < MAX_PROBES; probes++, slot = (slot + 1) & mask) {
        if (this.slots[slot] === entry + 1) {
          this.slots[slot] = 0;
          break;
        }
      }
    }
    if (size < this.size) this.keys.length = size === 0 ? 0 : this.starts[size - 1] + this.lengths[size - 1];
    this.size = size;
  }

  reset(): void {
    this.size = 0;
    this.keys.reset();
    if (this.mask >= 64 * INITIAL_ENTRIES) {
      this.resize(INITIAL_ENTRIES);
    } else {
      this.slots.fill(0);
    }
  }

  private add(source: ByteBuffer, start: number, length: number, hash: number, findable: boolean): number {
    const entry = this.size++;
    if (length < 0x80) this.keys.byte(length);
    else this.keys.varint(length);
    if (entry === this.starts.length) this.resize(entry * 2);
    this.starts[entry] = this.keys.length;
    this.lengths[entry] = length;
    this.hashes[entry] = hash;
    this.keys.copy(source, start, length);
    if (findable) this.insertSlot(entry);
    return entry;
  }

  private insertSlot(entry: number): void {
    const { mask } = this;
    let slot = this.hashes[entry] & mask;
    for (let probes = 0; probes < MAX_PROBES; probes++, slot = (slot + 1) & mask) {
      if (this.slots[slot] === 0) {
        this.slots[slot] = entry + 1;
        return;
      }
    }
  }

  private resize(entries: number): void {
    const keep = Math.min(this.size, entries);
    this.starts = resized(this.starts, keep, entries);
    this.lengths = resized(this.lengths, keep, entries);
    this.hashes = resized(this.hashes, keep, entries);
    this.slots = new Int32Array(entries * 2);
    this.mask = entries * 2 - 1;
    for (let entry = 0; entry < keep - 1; entry++) this.insertSlot(entry);
  }
}

function resized(old: Int32Array, keep: number, entries: number): Int32Array {
  const grown = new Int32Array(entries);
  grown.set(old.subarray(0, keep));
  return grown;
}

/** Four bytes at a time; reads, but does not use, up to three bytes behind the string. */
function hashOf(view: DataView, start: number, length: number): number {
  let hash = SEED ^ length;
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    hash = Math.imul(hash ^ view.getInt32(start + i, true), 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  if (i < length) {
    hash = Math.imul(hash ^ (view.getInt32(start + i, true) & tailMask(length - i)), 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  hash = Math.imul(hash, 0x85ebca6b);
  return hash ^ (hash >>> 13);
}

function tailMask(bytes: number): number {
  return (1 << (bytes * 8)) - 1;
}
