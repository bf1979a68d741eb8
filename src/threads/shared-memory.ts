import { COUNTS_LENGTH } from '../telemetry/request-counts.ts';

/*
 * The memory that the threads of the process share. Counts are written by one thread each and read by all: they need no locks, and those
 * of a thread that has ended can be removed exactly. `keys`, `taken` and `paid` are written by all threads, with Atomics. Limits apply to
 * the sums over all threads. Slot 0 is the main thread; ingest threads have the slots from 1 on.
 *
 *   counts    for each slot: RequestCounts
 *   bytes     for each slot: memory that it holds, blocks that it has pushed (both written by it),
 *             and blocks that the main thread has received from it
 *   state     of the queue and the process, written by the main thread, and whether the budget is full, written by all
 *   targets   for each slot: bytes that each target holds, by the target's entry (TargetTable)
 *   users     for each slot: which entries it uses
 *   keys      for each entry: the key of its target (a hash of its id), or that it is free
 *   taken     how many entries are taken
 *   paid      for each entry: until when the target's spans are paid for, in µs on the clock of performance.now()
 *
 * performance.now() is the same clock in all threads: its zero is the start of the process.
 */

/** Targets that can have an entry at the same time. */
export const MAX_TARGETS = 65_536;

const BYTES_PER_SLOT = 3;
export const State = { refusal: 0, isDurableAtOnce: 1, isQuick: 2, oldestAtMs: 3, promisedBytes: 4, isFull: 5 } as const;
const STATE_LENGTH = 8;

/** The buffers of the shared memory, as they are passed to each thread. */
export interface SharedBuffers {
  readonly slots: number;
  readonly counts: SharedArrayBuffer;
  readonly bytes: SharedArrayBuffer;
  readonly state: SharedArrayBuffer;
  readonly targets: SharedArrayBuffer;
  readonly users: SharedArrayBuffer;
  readonly keys: SharedArrayBuffer;
  readonly taken: SharedArrayBuffer;
  readonly paid: SharedArrayBuffer;
}

/** The shared memory, as one thread sees it. */
export class SharedMemory {
  readonly buffers: SharedBuffers;
  /** The slot of this thread. */
  readonly slot: number;
  readonly state: Float64Array;
  readonly paid: BigInt64Array;
  readonly targetKeys: BigInt64Array;
  readonly targetsTaken: Int32Array;
  private readonly bytes: Float64Array;

  constructor(buffers: SharedBuffers, slot: number) {
    this.buffers = buffers;
    this.slot = slot;
    this.state = new Float64Array(buffers.state);
    this.bytes = new Float64Array(buffers.bytes);
    this.paid = new BigInt64Array(buffers.paid);
    this.targetKeys = new BigInt64Array(buffers.keys);
    this.targetsTaken = new Int32Array(buffers.taken);
  }

  /** Makes the memory for the main thread and `threads` ingest threads. */
  static for(threads: number): SharedMemory {
    const slots = threads + 1;
    const buffers = {
      slots,
      counts: doubles(slots * COUNTS_LENGTH),
      bytes: doubles(slots * BYTES_PER_SLOT),
      state: doubles(STATE_LENGTH),
      // The kernel provides the pages when they are first written.
      targets: doubles(slots * MAX_TARGETS),
      users: new SharedArrayBuffer(slots * MAX_TARGETS),
      keys: doubles(MAX_TARGETS),
      taken: new SharedArrayBuffer(4),
      paid: doubles(MAX_TARGETS),
    };
    return new SharedMemory(buffers, 0);
  }

  /** The memory of a thread's `RequestCounts`. */
  countsOf(slot: number): Float64Array {
    return new Float64Array(this.buffers.counts, 8 * slot * COUNTS_LENGTH, COUNTS_LENGTH);
  }

  /** By the target's entry: 1 if the thread uses it. */
  targetUsers(slot: number): Uint8Array {
    return new Uint8Array(this.buffers.users, slot * MAX_TARGETS, MAX_TARGETS);
  }

  /** The bytes of a thread, by the target's entry. */
  targetsOf(slot: number): Float64Array {
    return new Float64Array(this.buffers.targets, 8 * slot * MAX_TARGETS, MAX_TARGETS);
  }

  /** Bytes of bodies and blocks in memory, of all threads, including blocks that are being sent to the main thread. */
  get heldBytes(): number {
    const { bytes } = this;
    let sum = 0;
    // Other threads write meanwhile: first what they hold, then what they pushed, last what the main thread holds. In this order memory
    // that moves on is counted twice for a moment, rather than not at all.
    for (let at = bytes.length - BYTES_PER_SLOT; at >= 0; at -= BYTES_PER_SLOT) sum += bytes[at] - bytes[at + 2] + bytes[at + 1];
    return sum;
  }

  /** Adds `bytes`, which may be negative, to the memory that this thread holds. */
  hold(bytes: number): void {
    this.bytes[BYTES_PER_SLOT * this.slot] += bytes;
  }

  /** Counts a block of `bytes` that this thread has sent to the main thread. */
  pushed(bytes: number): void {
    this.bytes[BYTES_PER_SLOT * this.slot + 1] += bytes;
  }

  /** Counts a block of `bytes` that the main thread has received from the thread in `slot`. */
  received(bytes: number, slot: number): void {
    this.bytes[BYTES_PER_SLOT * slot + 2] += bytes;
  }

  /** Sets the bytes of a thread that has ended to 0. */
  clear(slot: number): void {
    this.bytes.fill(0, BYTES_PER_SLOT * slot, BYTES_PER_SLOT * (slot + 1));
  }
}

function doubles(length: number): SharedArrayBuffer {
  return new SharedArrayBuffer(8 * length);
}
