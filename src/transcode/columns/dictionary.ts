import { ByteBuffer } from '../bytes/byte-buffer.ts';

/**
 * Limits the time of a look-up, also for strings that were made to have equal hashes. After this many probes an entry is added to
 * the dictionary, but not to the hash table. The same string may then be added again: ClickHouse merges equal dictionary keys.
 */
const MAX_PROBES = 64;
/** Random, so that nobody can prepare strings with equal hashes. */
const SEED = Math.floor(Math.random() * 0x1_0000_0000) | 0;
const INITIAL_ENTRIES = 128;

/**
 * The distinct strings of a LowCardinality column in one block, numbered in the order of their first use. `keys` holds them as
 * ClickHouse reads them: one Native String after the other.
 */
export class Dictionary {
  readonly keys = new ByteBuffer(4096);
  size = 0;
  private starts: Int32Array = new Int32Array(INITIAL_ENTRIES);
  private lengths: Int32Array = new Int32Array(INITIAL_ENTRIES);
  private hashes: Int32Array = new Int32Array(INITIAL_ENTRIES);
  /** A hash table with open addressing and linear probing, at most half full. A slot holds entry + 1; 0 is empty. */
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

  /** The offset in `keys` of the text of entry number `entry`. */
  start(entry: number): number {
    return this.starts[entry];
  }

  /** Bytes of the text of entry number `entry`. */
  length(entry: number): number {
    return this.lengths[entry];
  }

  /** Removes all entries from number `size` on. */
  truncate(size: number): void {
    const { mask } = this;
    // The newest first: otherwise a slot in the probes of an older entry could become empty.
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

  /** Removes all entries, and the memory of a large table. */
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

/** Hashes four bytes at a time. Reads up to three bytes after the string, and ignores them. */
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
