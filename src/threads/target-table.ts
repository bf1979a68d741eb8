import { hash } from 'node:crypto';
import { MAX_TARGETS, type SharedMemory } from './shared-memory.ts';

/** Most entries that are searched for a target. While half of the table is free, one of them is almost certainly free. */
const MAX_STEPS = 64;
/** `sweep` frees the entries of unused targets only when at least this many entries are taken. */
const MANY = MAX_TARGETS / 2;

/** Keys are positive, and greater than FREE and FREED. */
const KEY_BITS = 62;
const FREE = 0n;
/** An entry that was freed. A search does not end there: its target may have a later entry. */
const FREED = 1n;

/**
 * The entries of targets in the shared memory: a hash table, whose keys are hashes of the ids. Each thread notes in `users` which entries
 * it uses. If an entry is freed while another thread looks up its target, the target may get a second entry; for a short time, its usage
 * is then counted in two entries.
 */
export class TargetTable {
  private readonly memory: SharedMemory;
  private readonly keys: BigInt64Array;
  private readonly users: readonly Uint8Array[];
  private readonly own: Uint8Array;
  /** One element: the number of taken entries. */
  private readonly taken: Int32Array;

  constructor(memory: SharedMemory) {
    this.memory = memory;
    this.keys = memory.targetKeys;
    this.users = Array.from({ length: memory.buffers.slots }, (_, slot) => memory.targetUsers(slot));
    this.own = this.users[memory.slot];
    this.taken = memory.targetsTaken;
  }

  /** The number of targets that any thread uses, or used until a moment ago. */
  get size(): number {
    let count = 0;
    for (let entry = 0; entry < MAX_TARGETS; entry++) if (this.isUsed(entry)) count++;
    return count;
  }

  /** The entry of a target, which this thread uses from now on; undefined if there is none left. */
  take(id: string): number | undefined {
    const digest = hash('sha256', id, 'buffer');
    const wanted = BigInt.asUintN(KEY_BITS, digest.readBigUInt64LE()) | (1n << BigInt(KEY_BITS));
    const first = digest.readUInt16LE(8);
    for (let attempt = 0; attempt < MAX_STEPS; attempt++) {
      const entry = this.find(wanted, first);
      if (entry === undefined) return undefined;
      Atomics.store(this.own, entry, 1);
      if (Atomics.load(this.keys, entry) === wanted) return entry;
      Atomics.store(this.own, entry, 0);
    }
    return undefined;
  }

  /** Marks the entry as not used by this thread. */
  release(entry: number): void {
    Atomics.store(this.own, entry, 0);
  }

  /** Removes the usage counted by a thread that has ended. */
  clear(slot: number): void {
    const users = this.users[slot];
    const bytes = this.memory.targetsOf(slot);
    for (let entry = users.indexOf(1); entry >= 0; entry = users.indexOf(1, entry + 1)) {
      bytes[entry] = 0;
      users[entry] = 0;
    }
  }

  /** Frees the entries of targets that no thread uses, if many entries are taken. Called by the main thread only. */
  sweep(): void {
    if (Atomics.load(this.taken, 0) < MANY) return;
    for (let entry = 0; entry < MAX_TARGETS; entry++) {
      const key = Atomics.load(this.keys, entry);
      if (key <= FREED || this.isUsed(entry)) continue;
      Atomics.store(this.keys, entry, FREED);
      // A thread has begun to use it meanwhile.
      if (this.isUsed(entry)) Atomics.store(this.keys, entry, key);
      else Atomics.sub(this.taken, 0, 1);
    }
  }

  /** Finds the entry with this key, or makes one. */
  private find(key: bigint, first: number): number | undefined {
    let free: number | undefined;
    for (let step = 0; step < MAX_STEPS; step++) {
      const entry = (first + step) % MAX_TARGETS;
      const found = Atomics.load(this.keys, entry);
      if (found === key) return entry;
      if (found <= FREED) free ??= entry;
      if (found === FREE) break;
    }
    if (free === undefined) return undefined;
    const before = Atomics.load(this.keys, free);
    if (before > FREED || Atomics.compareExchange(this.keys, free, before, key) !== before) return this.find(key, first);
    Atomics.add(this.taken, 0, 1);
    return free;
  }

  private isUsed(entry: number): boolean {
    return this.users.some((users) => Atomics.load(users, entry) === 1);
  }
}
