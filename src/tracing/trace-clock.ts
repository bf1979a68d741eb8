/**
 * The clock of one trace. It reads the wall clock once. The SDK reads it for each span, in whole milliseconds: a child span could
 * then end after its parent.
 */
export class TraceClock {
  private readonly offsetMs = Date.now() - performance.now();

  /** The time in ms since 1970, with fractions. */
  now(): number {
    return this.offsetMs + performance.now();
  }
}
