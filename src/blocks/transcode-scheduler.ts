import { FairQueue } from './fair-queue.ts';

/** Transcoding may take this long in one iteration of the event loop, in ms. */
const TICK_MS = 10;

/**
 * Spreads transcoding over iterations of the event loop (ticks). If many bodies that arrive together were transcoded in one tick, health
 * checks and all other requests would be delayed.
 */
export class TranscodeScheduler {
  private readonly waiting = new FairQueue<() => void>();
  /** `performance.now()` at the start of the first work in this tick; undefined if there was none yet. */
  private begunAtMs: number | undefined;

  /** Runs `work` now, or in a later tick if the time of this one is used up. Owners are then served one after the other. */
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
