/** How long a sender may retry a request: the OpenTelemetry Collector's default (exporterhelper, `max_elapsed_time`). */
export const REPEATED_WITHIN_MS = 300_000;

/**
 * The outcome of a block in memory: stored, or dropped. The first senders wait for it up to ACK_TIMEOUT_MS. A retry of one of
 * their requests can wait here for the same block; the block is not dropped while a retry waits.
 */
export class BlockOutcome {
  /** Undefined until it is known; an Error is the reason why the block was dropped. */
  result: 'stored' | Error | undefined;
  private readonly waiting = new Set<PromiseWithResolvers<void>>();

  /** Whether a retry waits for the outcome. */
  get isAwaited(): boolean {
    return this.waiting.size > 0;
  }

  /** Resolves when the block is stored. Rejects with the reason when it is dropped, and with `late()` after `timeoutMs`. */
  async whenStored(timeoutMs: number, late: () => Error): Promise<void> {
    if (this.result === 'stored') return;
    if (this.result !== undefined) throw this.result;
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

  /** Sets the result: stored, or dropped for `reason`. */
  settle(reason: Error | undefined): void {
    this.result ??= reason ?? 'stored';
    for (const wait of this.waiting) {
      if (reason === undefined) wait.resolve();
      else wait.reject(reason);
    }
  }

  /** Rejects all that wait, before the outcome is known: at shutdown. */
  refuseWaiting(reason: Error): void {
    for (const wait of this.waiting) wait.reject(reason);
  }
}
