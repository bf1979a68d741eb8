/** Runs callbacks at the end of the current tick (iteration of the event loop), all with a single setImmediate. */
class EndOfTick {
  private work: (() => void)[] = [];

  /** Calls `work` after the event loop has handled all events of this tick. */
  run(work: () => void): void {
    if (this.work.length === 0) setImmediate(() => this.begin());
    this.work.push(work);
  }

  private begin(): void {
    const { work } = this;
    this.work = [];
    for (const each of work) each();
  }
}

/** The only instance in this thread. */
export const endOfTick = new EndOfTick();
