/** What is left for the next turn of the event loop: one timer of Node's for all of it. */
class NextTurn {
  private work: (() => void)[] = [];

  /** Does `work` when everything that has come in this turn has been looked at. */
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
export const nextTurn = new NextTurn();
