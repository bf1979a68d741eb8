import { randomUUID } from 'node:crypto';
import { notStoredInTime, refusedByClickHouse } from '../otlp/refusal.ts';
import { REPEATED_WITHIN_MS } from './block-outcome.ts';
import {
  type Abandoned,
  BlockQueue,
  type SpanAccounts,
  type KeepDeadLetter,
  type Refused,
  type RefusedPart,
  type Waiting,
} from './block-queue.ts';
import { insertOf, type Block, type Insert, type QueuedBlock } from './block.ts';
import type { MemoryBudget } from './memory-budget.ts';
import { RowsRefused } from './rows-refused.ts';

/** `isQuick` is true for this long after a confirmed insert: under load, confirmations come closer together. */
const QUICK_MS = 500;

interface MemoryBlock extends Block {
  readonly durable: PromiseWithResolvers<void>;
  deadline: NodeJS.Timeout | undefined;
  /** Whether its requests are answered: 200, or with an error. */
  settled: boolean;
}

interface MemoryQueueOptions {
  readonly budget: MemoryBudget;
  /**
   * A block that is not stored within this time is refused, and dropped unless its insert is in flight. Undefined: never, as its
   * requests are answered before.
   */
  readonly ackTimeoutMs: number | undefined;
  readonly storageRefusal: () => Error | undefined;
  /** For blocks that are already acknowledged. */
  readonly keepDeadLetter: KeepDeadLetter;
}

/**
 * The queue in memory: a block is durable when ClickHouse has it. A block that was never sent is dropped as soon as no request
 * and no retry waits for it: its senders have an error, and send their spans again.
 */
export class MemoryQueue extends BlockQueue {
  private readonly options: MemoryQueueOptions;
  /** Part of each token: makes the tokens of two processes different. */
  private readonly id = randomUUID();
  private queue: MemoryBlock[] = [];
  private readonly sent = new Set<MemoryBlock>();
  private readonly keptParts = new WeakSet<RefusedPart>();
  private nextSequence = 0;
  private rows = 0;
  private bytes = 0;
  /** Rows of the blocks that wait or are in flight. */
  private heldRows = 0;
  private storedAfterRefusal = 0;
  private storedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: MemoryQueueOptions) {
    super();
    this.options = options;
  }

  get waiting(): Waiting {
    return {
      blocks: this.queue.length,
      rows: this.rows,
      bytes: this.bytes,
      oldestAtMs: this.queue[0]?.queuedAtMs ?? Number.POSITIVE_INFINITY,
    };
  }

  get capacityBytes(): number {
    return this.options.budget.limitBytes;
  }

  /** `buffered` is 0 unless ACK_MODE=received: otherwise no block in memory is acknowledged yet. */
  get accounts(): SpanAccounts {
    return {
      buffered: this.options.ackTimeoutMs === undefined ? this.heldRows : 0,
      recovered: 0,
      storedAfterRefusal: this.storedAfterRefusal,
    };
  }

  get isDurableAtOnce(): boolean {
    return this.options.ackTimeoutMs === undefined;
  }

  get isQuick(): boolean {
    return performance.now() - this.storedAtMs < QUICK_MS;
  }

  override get isShortOfRoom(): boolean {
    const { usedBytes, limitBytes } = this.options.budget;
    return usedBytes > limitBytes / 2;
  }

  push(sealed: QueuedBlock): Promise<void> {
    const { ackTimeoutMs, budget } = this.options;
    const block: MemoryBlock = {
      frame: compact(sealed.frame),
      rows: sealed.rows,
      trace: sealed.trace,
      outcome: sealed.outcome,
      sequence: this.nextSequence++,
      queuedAtMs: performance.now(),
      durable: Promise.withResolvers<void>(),
      deadline: undefined,
      settled: false,
    };
    if (ackTimeoutMs !== undefined) block.deadline = setTimeout(() => this.expire(block), ackTimeoutMs);
    budget.add(block.frame.length);
    this.queue.push(block);
    this.rows += block.rows;
    this.bytes += block.frame.length;
    this.heldRows += block.rows;
    this.onBlock();
    return block.durable.promise;
  }

  refusal(): Error | undefined {
    return this.options.storageRefusal();
  }

  take(maxRows: number, maxBytes: number): Insert | undefined {
    if (this.queue.length === 0) return undefined;
    let count = 0;
    let rows = 0;
    let bytes = 0;
    do {
      rows += this.queue[count].rows;
      bytes += this.queue[count].frame.length;
      count++;
    } while (count < this.queue.length && rows + this.queue[count].rows <= maxRows && bytes + this.queue[count].frame.length <= maxBytes);
    const blocks = this.queue.splice(0, count);
    this.rows -= rows;
    this.bytes -= bytes;
    for (const block of blocks) this.sent.add(block);
    return this.insertOf(blocks);
  }

  async prepare(): Promise<void> {}

  split(insert: Insert): readonly [Insert, Insert] {
    const middle = insert.blocks.length >> 1;
    return [this.insertOf(insert.blocks.slice(0, middle)), this.insertOf(insert.blocks.slice(middle))];
  }

  /** A block that is stored in part is completed for as long as its senders may retry: the retry then joins it, and is not stored twice. */
  isWanted(insert: Insert, isStoredInPart: boolean): boolean {
    if (this.options.ackTimeoutMs === undefined) return true;
    if (isStoredInPart && performance.now() - insert.blocks[0].queuedAtMs < REPEATED_WITHIN_MS) return true;
    return insert.blocks.some((block) => !(block as MemoryBlock).settled || block.outcome?.isAwaited);
  }

  confirm(insert: Insert): void {
    this.storedAtMs = performance.now();
    for (const block of insert.blocks as readonly MemoryBlock[]) {
      if (block.settled) this.storedAfterRefusal += block.rows;
      this.settle(block, undefined);
    }
  }

  /** Answers its requests with an error, or keeps a dead letter if they are already acknowledged. */
  async reject(insert: Insert, refused: Refused): Promise<void> {
    if (this.options.ackTimeoutMs === undefined) await this.options.keepDeadLetter(insert, refused);
    for (const block of insert.blocks) this.settle(block as MemoryBlock, refusedByClickHouse());
  }

  /** None: a crash loses the block anyway. */
  journal(): undefined {}

  async confirmExcept(insert: Insert, refused: readonly RefusedPart[]): Promise<void> {
    for (const part of this.options.ackTimeoutMs === undefined ? refused : []) {
      // Kept by an earlier call, which failed at a later part.
      if (this.keptParts.has(part)) continue;
      await this.options.keepDeadLetter(part.insert, part.refused);
      this.keptParts.add(part);
    }
    const block = insert.blocks[0] as MemoryBlock;
    if (block.settled) this.storedAfterRefusal += refused.reduce((rows, part) => rows - part.insert.rows, block.rows);
    this.settle(block, refused.length === 0 ? undefined : new RowsRefused(refused.flatMap(({ ranges }) => ranges)));
  }

  release(insert: Insert, storedRows: number): void {
    if (this.options.ackTimeoutMs !== undefined) this.storedAfterRefusal += storedRows;
    for (const block of insert.blocks) this.settle(block as MemoryBlock, notStoredInTime());
  }

  abandon(reason: Error): Abandoned {
    const { queue } = this;
    const held = [...queue, ...this.sent].filter(({ settled }) => !settled).reduce((rows, block) => rows + block.rows, 0);
    const isAcknowledged = this.options.ackTimeoutMs === undefined;
    this.queue = [];
    this.rows = 0;
    this.bytes = 0;
    for (const block of queue) this.settle(block, reason);
    for (const block of this.sent) {
      this.answer(block, reason);
      block.outcome?.refuseWaiting(reason);
    }
    return { spansInDiskBuffer: 0, spansRefused: isAcknowledged ? 0 : held, spansLost: isAcknowledged ? held : 0 };
  }

  private insertOf(blocks: readonly Block[]): Insert {
    return insertOf(blocks, `${this.id}-${blocks[0].sequence}-${blocks.at(-1)!.sequence}`);
  }

  private expire(block: MemoryBlock): void {
    const index = this.queue.indexOf(block);
    if (index < 0) return this.answer(block, notStoredInTime());
    if (block.outcome?.isAwaited) {
      // A retry waits for the block, for one more timeout at most.
      this.answer(block, notStoredInTime());
      block.deadline = setTimeout(() => this.expire(block), this.options.ackTimeoutMs);
      return;
    }
    this.queue.splice(index, 1);
    this.rows -= block.rows;
    this.bytes -= block.frame.length;
    this.settle(block, notStoredInTime());
  }

  /** Removes a block from memory, with its outcome. */
  private settle(block: MemoryBlock, reason: Error | undefined): void {
    this.sent.delete(block);
    this.heldRows -= block.rows;
    this.options.budget.release(block.frame.length);
    this.answer(block, reason);
    block.outcome?.settle(reason);
  }

  private answer(block: MemoryBlock, reason: Error | undefined): void {
    block.settled = true;
    clearTimeout(block.deadline);
    if (reason === undefined) block.durable.resolve();
    else block.durable.reject(reason);
  }
}

/** Copies a frame out of Node's shared pool: a small frame would otherwise keep the whole pool in memory. */
function compact(frame: Buffer): Buffer {
  if (frame.buffer.byteLength <= 2 * frame.length) return frame;
  const copy = Buffer.allocUnsafeSlow(frame.length);
  frame.copy(copy);
  return copy;
}
