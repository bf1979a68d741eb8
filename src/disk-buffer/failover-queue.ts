import { notStoredInTime } from '../otlp/refusal.ts';
import {
  type Abandoned,
  BlockQueue,
  type SpanAccounts,
  type Refused,
  type RefusedPart,
  type SearchJournal,
  type Waiting,
} from '../queue/block-queue.ts';
import type { Insert, QueuedBlock } from '../queue/block.ts';
import type { RingQueue } from './ring-queue.ts';

/**
 * The outcome of each block in the ring: a retry of its requests then counts as a new request. One shared Error, because creating one per
 * block took 13 % of the main thread's time.
 */
const IN_THE_RING = notStoredInTime();

/** The queue of DISK_BUFFER_ON_ERROR=memory: new blocks go to the ring, or to memory while its disk fails. Both are inserted. */
export class FailoverQueue extends BlockQueue {
  private readonly ring: RingQueue;
  private readonly memory: BlockQueue;
  /** Inserts that were taken from memory. */
  private readonly fromMemory = new WeakSet<Insert>();

  constructor(ring: RingQueue, memory: BlockQueue) {
    super();
    this.ring = ring;
    this.memory = memory;
    ring.onBlock = () => this.onBlock();
    memory.onBlock = () => this.onBlock();
  }

  get waiting(): Waiting {
    const a = this.ring.waiting;
    const b = this.memory.waiting;
    return {
      blocks: a.blocks + b.blocks,
      rows: a.rows + b.rows,
      bytes: a.bytes + b.bytes,
      oldestAtMs: Math.min(a.oldestAtMs, b.oldestAtMs),
    };
  }

  get capacityBytes(): number {
    return this.ring.capacityBytes;
  }

  get accounts(): SpanAccounts {
    const a = this.ring.accounts;
    const b = this.memory.accounts;
    return { buffered: a.buffered + b.buffered, recovered: a.recovered, storedAfterRefusal: a.storedAfterRefusal + b.storedAfterRefusal };
  }

  get isDurableAtOnce(): boolean {
    return this.current().isDurableAtOnce;
  }

  get isQuick(): boolean {
    return this.current().isQuick;
  }

  push(block: QueuedBlock): Promise<void> {
    const queue = this.current();
    // The ring does not report when a block is stored: a retried request can't wait for it.
    if (queue === this.ring) block.outcome?.settle(IN_THE_RING);
    return queue.push(block);
  }

  refusal(): Error | undefined {
    return this.current().refusal();
  }

  take(maxRows: number, maxBytes: number): Insert | undefined {
    const fromRing = this.ring.take(maxRows, maxBytes);
    if (fromRing !== undefined) return fromRing;
    const fromMemory = this.memory.take(maxRows, maxBytes);
    if (fromMemory !== undefined) this.fromMemory.add(fromMemory);
    return fromMemory;
  }

  prepare(insert: Insert, server: string): Promise<void> {
    return this.origin(insert).prepare(insert, server);
  }

  split(insert: Insert): readonly [Insert, Insert] {
    const halves = this.origin(insert).split(insert);
    if (this.fromMemory.has(insert)) for (const half of halves) this.fromMemory.add(half);
    return halves;
  }

  isWanted(insert: Insert, isStoredInPart: boolean): boolean {
    return this.origin(insert).isWanted(insert, isStoredInPart);
  }

  confirm(insert: Insert): void {
    this.origin(insert).confirm(insert);
  }

  reject(insert: Insert, refused: Refused): Promise<void> {
    return this.origin(insert).reject(insert, refused);
  }

  journal(insert: Insert): SearchJournal | undefined {
    return this.origin(insert).journal(insert);
  }

  confirmExcept(insert: Insert, refused: readonly RefusedPart[]): Promise<void> {
    return this.origin(insert).confirmExcept(insert, refused);
  }

  release(insert: Insert, storedRows: number): void {
    this.origin(insert).release(insert, storedRows);
  }

  abandon(reason: Error): Abandoned {
    return { ...this.memory.abandon(reason), spansInDiskBuffer: this.ring.abandon().spansInDiskBuffer };
  }

  private current(): BlockQueue {
    return this.ring.diskFailure === undefined ? this.ring : this.memory;
  }

  private origin(insert: Insert): BlockQueue {
    return this.fromMemory.has(insert) ? this.memory : this.ring;
  }
}
