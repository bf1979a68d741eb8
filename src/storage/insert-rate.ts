const SECONDS = 60;

interface Second {
  /** The second's number since the start of the process: shows whether the slot is of the last minute or older. */
  number: number;
  inserts: number;
  rows: number;
}

/** The rate of confirmed inserts and their average size, over the last minute. */
export class InsertRate {
  private readonly seconds: Second[] = Array.from({ length: SECONDS }, () => ({ number: -1, inserts: 0, rows: 0 }));
  private readonly beganAtMs: number;

  constructor(nowMs = performance.now()) {
    this.beganAtMs = nowMs;
  }

  /** Counts one confirmed insert. */
  inserted(rows: number, nowMs = performance.now()): void {
    const number = Math.floor(nowMs / 1000);
    const second = this.seconds[number % SECONDS];
    if (second.number !== number) Object.assign(second, { number, inserts: 0, rows: 0 });
    second.inserts++;
    second.rows += rows;
  }

  /** Averages over the last minute, or since the start if that is shorter; 0 without inserts. */
  lastMinute(nowMs = performance.now()): { readonly insertsPerSecond: number; readonly spansPerInsert: number } {
    const first = Math.floor(nowMs / 1000) - SECONDS;
    let inserts = 0;
    let rows = 0;
    for (const second of this.seconds) {
      if (second.number <= first) continue;
      inserts += second.inserts;
      rows += second.rows;
    }
    const seconds = Math.min(SECONDS, Math.max(1, (nowMs - this.beganAtMs) / 1000));
    return { insertsPerSecond: inserts / seconds, spansPerInsert: inserts === 0 ? 0 : rows / inserts };
  }
}
