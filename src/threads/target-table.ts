import { hash } from 'node:crypto';
import { MAX_TARGETS, type SharedMemory } from './shared-memory.ts';

/** Places that are looked at for a target. There is a free one among them while the table is half empty. */
const MAX_STEPS = 64;
/** Places that are taken when those of targets that have gone are freed. */
const MANY = MAX_TARGETS / 2;

/** Keys are positive, and greater than FREE and FREED. */
const KEY_BITS = 62;
const FREE = 0n;
/** A place that was freed: the search for a target that stands behind it goes on. */
const FREED = 1n;

/**
 * The places of targets in the shared memory: a hash table, whose keys are hashes of the ids. Each thread notes in `users` which
 * places it uses. If a target is looked for at the moment in which its place is freed, it may get a second one; for a moment, its
 * limits are then counted apart.
 */
export class TargetTable {
  private readonly memory: SharedMemory;
  private readonly keys: BigInt64Array;
  private readonly users: readonly Uint8Array[];
  private readonly own: Uint8Array;
  /** Its only number: places that are taken. */
  private readonly taken: Int32Array;

  constructor(memory: SharedMemory) {
    this.memory = memory;
    this.keys = memory.targetKeys;
    this.users = Array.from({ length: memory.buffers.slots }, (_, slot) => memory.targetUsers(slot));
    this.own = this.users[memory.slot];
    this.taken = memory.targetsTaken;
  }

  /** Targets that a thread has something of, or had a moment ago. */
  get size(): number {
    let count = 0;
    for (let place = 0; place < MAX_TARGETS; place++) if (this.isUsed(place)) count++;
    return count;
  }

  /** The place of a target for this thread; undefined if there is none left. */
  take(id: string): number | undefined {
    const digest = hash('sha256', id, 'buffer');
    const wanted = BigInt.asUintN(KEY_BITS, digest.readBigUInt64LE()) | (1n << BigInt(KEY_BITS));
    const first = digest.readUInt16LE(8);
    for (let attempt = 0; attempt < MAX_STEPS; attempt++) {
      const place = this.find(wanted, first);
      if (place === undefined) return undefined;
      Atomics.store(this.own, place, 1);
      if (Atomics.load(this.keys, place) === wanted) return place;
      Atomics.store(this.own, place, 0);
    }
    return undefined;
  }

  /** This thread has nothing of the target any more. */
  release(place: number): void {
    Atomics.store(this.own, place, 0);
  }

  /** Takes back what a thread that has ended has counted. */
  clear(slot: number): void {
    const users = this.users[slot];
    const bytes = this.memory.targetsOf(slot);
    for (let place = users.indexOf(1); place >= 0; place = users.indexOf(1, place + 1)) {
      bytes[place] = 0;
      users[place] = 0;
    }
  }

  /** Frees the places of targets that have gone, if there are many. Called by the main thread only. */
  sweep(): void {
    if (Atomics.load(this.taken, 0) < MANY) return;
    for (let place = 0; place < MAX_TARGETS; place++) {
      const key = Atomics.load(this.keys, place);
      if (key <= FREED || this.isUsed(place)) continue;
      Atomics.store(this.keys, place, FREED);
      // A thread has taken it meanwhile.
      if (this.isUsed(place)) Atomics.store(this.keys, place, key);
      else Atomics.sub(this.taken, 0, 1);
    }
  }

  /** Finds the key, or gives it a place. */
  private find(key: bigint, first: number): number | undefined {
    let free: number | undefined;
    for (let step = 0; step < MAX_STEPS; step++) {
      const place = (first + step) % MAX_TARGETS;
      const found = Atomics.load(this.keys, place);
      if (found === key) return place;
      if (found <= FREED) free ??= place;
      if (found === FREE) break;
    }
    if (free === undefined) return undefined;
    const before = Atomics.load(this.keys, free);
    if (before > FREED || Atomics.compareExchange(this.keys, free, before, key) !== before) return this.find(key, first);
    Atomics.add(this.taken, 0, 1);
    return free;
  }

  private isUsed(place: number): boolean {
    return this.users.some((users) => Atomics.load(users, place) === 1);
  }
}
