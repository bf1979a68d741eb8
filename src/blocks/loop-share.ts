import { TurnQueue } from './turn-queue.ts';

/** Work that has taken this long lets the event loop look at everything else before it goes on. */
const TURN_MS = 10;

/**
 * Work on the main thread that shares the event loop with the rest: many bodies that arrive at the same moment are not
 * transcoded in one go, which would hold up health checks for as long as all of them take.
 */
export class LoopShare {
  private readonly waiting = new TurnQueue<() => void>();
  /** When the first piece of work of this turn began; undefined between the turns. */
  private begunAtMs: number | undefined;

  /** Does `work` now, or in a later turn of the event loop; owners take turns then. */
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
    return performance.now() - this.begunAtMs! > TURN_MS;
  }

  /** The next turn: what has waited comes first. */
  private next(): void {
    this.begunAtMs = undefined;
    if (this.waiting.isEmpty) return;
    this.begin();
    do this.waiting.shift()!();
    while (!this.waiting.isEmpty && !this.isOver());
  }
}
