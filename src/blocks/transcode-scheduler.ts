import { FairQueue } from './fair-queue.ts';

/** Transcoding may take this long in one iteration of the event loop, in ms. */
const TICK_MS = 10;

/**
 * Spreads transcoding on the main thread over iterations of the event loop (ticks): transcoding many bodies that arrive at the same moment
 * in one go would delay health checks and all other requests.
 */
export class TranscodeScheduler {
  private readonly waiting = new FairQueue<() => void>();
  /** `performance.now()` at the start of the first work in this tick; undefined if there was none yet. */
  private begunAtMs: number | undefined;

  /** Runs `work` now, or in a later tick if this one is used up. Owners are then served one after the other. */
  run<Result>(owner: string, work: () => Result): Result | Promise<Result> {
    if (this.begunAtMs === undefined) this.begin();
    if (this.waiting.isEmpty && !this.isOver()) return work();
    return new Promise((resolve, reject) => {
      this.waiting.push(owner, () => {
        try {
          resolve(work());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  private begin(): void {
    this.begunAtMs = performance.now();
    setImmediate(() => this.next());
  }

  private isOver(): boolean {
    return performance.now() - this.begunAtMs! > TICK_MS;
  }

  /** Begins the next tick with the work that is waiting. */
  private next(): void {
    this.begunAtMs = undefined;
    if (this.waiting.isEmpty) return;
    this.begin();
    do this.waiting.shift()!();
    while (!this.waiting.isEmpty && !this.isOver());
  }
}
