/** A thread is busy if its event loop was, for this part of a second. */
const BUSY = 0.75;
/** So many seconds in a row, all must be busy. */
const BUSY_SECONDS = 3;

/** Decides when one more ingest thread is needed. */
export class ThreadGrowth {
  private readonly most: number;
  private busySeconds = 0;

  /** @param most INGEST_THREADS */
  constructor(most: number) {
    this.most = most;
  }

  /**
   * Whether one more is needed. Must be called once a second.
   * @param loads for each thread that is to run, the part of the last second that its event loop was busy; 0 if it does not listen yet
   */
  isNeeded(loads: readonly number[]): boolean {
    const isBusy = loads.length < this.most && loads.every((load) => load >= BUSY);
    this.busySeconds = isBusy ? this.busySeconds + 1 : 0;
    if (this.busySeconds < BUSY_SECONDS) return false;
    this.busySeconds = 0;
    return true;
  }
}
