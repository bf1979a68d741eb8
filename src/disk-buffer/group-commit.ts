import type { Ring } from './ring.ts';

interface Range {
  readonly from: number;
  readonly to: number;
}

/**
 * Writes what has changed in the ring to the disk, all that has gathered at once, one sync at a time. Space that the
 * tail has passed is given free by the same sync that makes the superblock which says so durable.
 */
export class GroupCommit {
  private readonly ring: Ring;
  private changed: Range[] = [];
  private next = Promise.withResolvers<void>();
  private running: Promise<void> | undefined;
  /** Whether anybody waits for `next`. */
  private wanted = false;

  constructor(ring: Ring) {
    this.ring = ring;
  }

  /** Notes that a range was written. */
  markChanged(range: Range): void {
    const last = this.changed.at(-1);
    // Records follow each other: their ranges become one.
    if (last?.to === range.from) this.changed[this.changed.length - 1] = { from: last.from, to: range.to };
    else this.changed.push(range);
  }

  /** Resolves when all that was noted before is on the disk. @throws Error when the disk fails */
  commit(): Promise<void> {
    const { promise } = this.next;
    this.wanted = true;
    this.running ??= this.run();
    return promise;
  }

  private async run(): Promise<void> {
    // Everybody who asks in this turn of the event loop goes along.
    await Promise.resolve();
    const { changed, next } = this;
    this.changed = [];
    this.wanted = false;
    this.next = Promise.withResolvers<void>();
    // Somebody waits for it, or nobody has to: with the interval, a failure shows in the state of the buffer.
    next.promise.catch(() => {});
    this.next.promise.catch(() => {});
    try {
      const superblock = this.ring.saveTail();
      for (const { from, to } of changed) await this.ring.sync(from, to);
      if (superblock !== undefined) await this.ring.sync(superblock.from, superblock.to);
      this.ring.confirm();
      next.resolve();
    } catch (error) {
      // Still not on the disk: the next commit tries again.
      this.changed.unshift(...changed);
      next.reject(error);
    }
    this.running = undefined;
    if (this.wanted) this.running = this.run();
  }
}
