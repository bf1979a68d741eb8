/** A thread is busy if its event loop was busy for this fraction of a second. */
const BUSY = 0.75;
/** A thread is added when all serving threads were busy for this many seconds in a row. */
const BUSY_SECONDS = 3;
/** Fewer threads are enough if each would be busy for at most this fraction of a second. */
const MOST_WITH_FEWER = 0.5;
/** Threads go on standby when fewer would have been enough for this many seconds in a row. */
const FEWER_SECONDS = 10;

/** Decides how many ingest threads serve. */
export class ThreadCount {
  /** Number of threads that serve: those of slots 1 to this one; 1: the main thread. */
  serving: number;
  private readonly least: number;
  private readonly most: number;
  private busySeconds = 0;
  /** For each of the last seconds, the number of threads that would have been enough. */
  private enough: number[] = [];

  /** @param least INGEST_THREADS_MIN @param most INGEST_THREADS */
  constructor(least: number, most: number) {
    this.serving = least;
    this.least = least;
    this.most = most;
  }

  /**
   * Adapts the number of threads to their loads. Must be called once a second.
   * @param main the part of the last second that the event loop of the main thread was busy
   * @param loads the same for each ingest thread that runs, by slot; 0 if it does not listen yet
   * @returns whether the number has changed
   */
  adapt(main: number, loads: readonly number[]): boolean {
    const before = this.serving;
    const isBusy = (before === 1 ? [main] : loads.slice(0, before)).every((load) => load >= BUSY);
    this.busySeconds = isBusy ? this.busySeconds + 1 : 0;
    const sum = loads.reduce((total, load) => total + load, 0);
    const enough = main + sum <= MOST_WITH_FEWER ? 1 : Math.max(2, Math.ceil(sum / MOST_WITH_FEWER));
    this.enough = [...this.enough.slice(1 - FEWER_SECONDS), Math.max(this.least, enough)];
    if (this.busySeconds >= BUSY_SECONDS) this.serving = Math.min(this.most, this.serving + 1);
    else if (this.enough.length === FEWER_SECONDS) this.serving = Math.min(this.serving, Math.max(...this.enough));
    if (this.serving === before) return false;
    this.busySeconds = 0;
    this.enough = [];
    return true;
  }
}
