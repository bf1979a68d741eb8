import { RowsRefused } from '../queue/rows-refused.ts';

/**
 * Compares the spans that ingest threads have acknowledged with those of their blocks that are durable. The two differ when a thread
 * ends: it can have no time to count, or to answer, what is stored.
 */
export class SpanBalance {
  /** Spans that are stored, although the thread of their request had ended before the answer. */
  stored = 0;
  /** Spans that were acknowledged at once (ACK_MODE=received) by a thread that has ended before they were queued. */
  lost = 0;
  /** Durable spans by slot, which the thread has acknowledged or is about to. */
  private readonly durable = new Map<number, number>();

  /**
   * Counts the rows of a block, or of a request that joins an earlier one, when their outcome is known.
   * @param isGone whether the thread has ended
   */
  async count(durable: Promise<void>, from: number, to: number, slot: number, isGone: () => boolean): Promise<void> {
    const spans = await durable.then(
      () => to - from,
      (error: unknown) => (error instanceof RowsRefused ? to - from - error.countIn(from, to) : 0),
    );
    if (isGone()) this.stored += spans;
    else this.durable.set(slot, (this.durable.get(slot) ?? 0) + spans);
  }

  /**
   * Called when a thread has ended: adds the difference to `stored` or `lost`.
   * @param acknowledged spans that the threads of this slot have acknowledged since the start
   */
  settle(slot: number, acknowledged: number): void {
    const difference = (this.durable.get(slot) ?? 0) - acknowledged;
    if (difference > 0) this.stored += difference;
    else this.lost -= difference;
    this.durable.set(slot, acknowledged);
  }
}
