import type { Range, Ring } from './ring.ts';

/**
 * Writes the changed ranges of the ring to the disk: all that have accumulated in one commit, one commit at a time. Space behind
 * the tail becomes free with the commit that makes the superblock with that tail durable.
 */
export class GroupCommit {
  private readonly ring: Ring;
  private changed: Range[] = [];
  private next = Promise.withResolvers<void>();
  private running: Promise<void> | undefined;
  /** Whether a commit was requested since the running one started. */
  private wanted = false;

  constructor(ring: Ring) {
    this.ring = ring;
  }

  /** Adds a range to the next commit. */
  markChanged(range: Range): void {
    const last = this.changed.at(-1);
    // Records are adjacent: their ranges are merged.
    if (last?.to === range.from) this.changed[this.changed.length - 1] = { from: last.from, to: range.to };
    else this.changed.push(range);
  }

  /** Resolves when all ranges marked so far are on the disk. @throws Error when the disk fails */
  commit(): Promise<void> {
    const { promise } = this.next;
    this.wanted = true;
    this.running ??= this.run();
    return promise;
  }

  private async run(): Promise<void> {
    // All commits requested in this iteration of the event loop are one.
    await Promise.resolve();
    const { changed, next } = this;
    this.changed = [];
    this.wanted = false;
    this.next = Promise.withResolvers<void>();
    // A commit may have no waiter: a failure of the interval's commit shows in the state of the buffer.
    next.promise.catch(() => {});
    this.next.promise.catch(() => {});
    try {
      const superblock = this.ring.saveTail();
      for (const { from, to } of changed) await this.ring.sync(from, to);
      if (superblock !== undefined) await this.ring.sync(superblock.from, superblock.to);
      this.ring.confirm();
      next.resolve();
    } catch (error) {
      // Not on the disk yet: the next commit includes these ranges again.
      this.changed.unshift(...changed);
      next.reject(error);
    }
    this.running = undefined;
    if (this.wanted) this.running = this.run();
  }
}
