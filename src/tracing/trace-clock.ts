/**
 * The time in one trace. The wall clock is read once, as the SDK does for each span in whole milliseconds: a step could then end after
 * the request that it is part of.
 */
export class TraceClock {
  private readonly offsetMs = Date.now() - performance.now();

  /** In ms since the epoch, with fractions. */
  now(): number {
    return this.offsetMs + performance.now();
  }
}
