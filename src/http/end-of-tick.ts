/** Work that is left until the end of this tick, which is one iteration of the event loop: one timer of Node's for all of it. */
class EndOfTick {
  private work: (() => void)[] = [];

  /** Does `work` when the event loop has handled all that has come in this tick. */
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

/** Of this thread. */
export const endOfTick = new EndOfTick();
