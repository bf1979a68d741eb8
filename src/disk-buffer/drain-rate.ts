const SAMPLE_MS = 5_000;

/** The rate at which spans leave the disk buffer, over the last 5 seconds. */
export class DrainRate {
  spansPerSecond = 0;
  private readonly inserted: () => number;
  private readonly timer: NodeJS.Timeout;
  private last: { readonly atMs: number; readonly rows: number };

  /** @param inserted returns the number of spans that have left since the start */
  constructor(inserted: () => number) {
    this.inserted = inserted;
    this.last = { atMs: performance.now(), rows: inserted() };
    this.timer = setInterval(() => this.sample(), SAMPLE_MS).unref();
  }

  /** Seconds until `waiting` spans have left at the present rate; Infinity while none leave. */
  secondsFor(waiting: number): number {
    return waiting === 0 ? 0 : waiting / this.spansPerSecond;
  }

  /** Stops sampling. */
  stop(): void {
    clearInterval(this.timer);
  }

  private sample(): void {
    const now = { atMs: performance.now(), rows: this.inserted() };
    this.spansPerSecond = ((now.rows - this.last.rows) * 1000) / (now.atMs - this.last.atMs);
    this.last = now;
  }
}
