/** As long as the OpenTelemetry Collector goes on repeating a request. */
export const REPEATED_WITHIN_MS = 300_000;

/**
 * What becomes of a block in memory: it is stored, or thrown away. Its own senders wait only so long for that; whoever repeats
 * one of their requests later can wait here for the same block, and as long as somebody does, it is not thrown away.
 */
export class BlockFate {
  /** Undefined until it is known; an Error says why the block is thrown away. */
  outcome: 'stored' | Error | undefined;
  private readonly waiting = new Set<PromiseWithResolvers<void>>();

  get isAwaited(): boolean {
    return this.waiting.size > 0;
  }

  /** Resolves when the block is stored. Rejects with the reason when it is thrown away, and with `late()` after `timeoutMs`. */
  async stored(timeoutMs: number, late: () => Error): Promise<void> {
    if (this.outcome === 'stored') return;
    if (this.outcome !== undefined) throw this.outcome;
    const wait = Promise.withResolvers<void>();
    const timer = setTimeout(() => wait.reject(late()), timeoutMs);
    this.waiting.add(wait);
    try {
      await wait.promise;
    } finally {
      clearTimeout(timer);
      this.waiting.delete(wait);
    }
  }

  /** The block is stored, or thrown away for a reason. */
  settle(reason: Error | undefined): void {
    this.outcome ??= reason ?? 'stored';
    for (const wait of this.waiting) {
      if (reason === undefined) wait.resolve();
      else wait.reject(reason);
    }
  }

  /** Nobody can wait any longer, though what becomes of the block is not known yet. */
  refuseWaiting(reason: Error): void {
    for (const wait of this.waiting) wait.reject(reason);
  }
}
