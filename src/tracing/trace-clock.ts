/**
 * The clock of one trace. It reads the wall clock once. The SDK reads it for each span, in whole milliseconds: a child span could
 * then end after its parent.
 */
export class TraceClock {
  /** The wall clock minus `performance.now()`, in ms. `performance.now()` is the same clock in all threads. */
  readonly offsetMs: number;

  /** @param offsetMs that of a trace which another thread has begun */
  constructor(offsetMs = Date.now() - performance.now()) {
    this.offsetMs = offsetMs;
  }

  /** The time in ms since 1970, with fractions. */
  now(): number {
    return this.offsetMs + performance.now();
  }
}
