/*
 * Decides when the next insert starts if senders wait for it, which is so without the disk buffer.
 *
 *   requests    │ │ │ │ │ │ │ │ │ │ │ │ │       │ │ █ │ │ █ │ │ █ │ │          │
 *   inserts     └── BATCH_TIMEOUT_MS ──▶│       └───▶└───▶└───▶                └▶│
 *               others keep coming              a busy sender among them       no more requests
 *
 * Each further request lowers ClickHouse's cost per span: waiting pays off while independent requests keep coming. A busy sender
 * has its next request ready when it gets an answer: waiting slows it down, so the wait is shorter. Requests that follow an answer
 * immediately are no reason to wait: their senders send the next one only after this insert.
 */

/** The shortest wait: requests often come in groups, and an insert for each is expensive. */
const LEAST_WAIT_MS = 20;

/** With a busy sender, the longest wait is this fraction of BATCH_TIMEOUT_MS. */
const BUSY_PART = 1 / 4;

/** A request follows an answer immediately if it comes within this time: the network's round trip and the sender's own work. */
const RIGHT_BEHIND_MS = 50;

/** A sender is busy after this many requests in a row that follow an answer immediately: a single one may be chance. */
const BUSY_REQUESTS = 3;

/** Independent requests are not waited for if they are further apart than this, or are less than this fraction of the bytes. */
const MAX_GAP_MS = 60;
const MIN_PART = 1 / 10;

/** The wait ends when no request has come for this long, and for this many of the average gaps. */
const QUIET_MS = 30;
const QUIET_GAPS = 2;

/** Time constant of the moving averages: a request this old counts 1/e of a new one. */
const RECENT_MS = 1_000;

/** The sender on one connection. */
export interface PacedSender {
  /** `performance.now()` when its last request was answered; the caller sets it. */
  answeredAtMs: number;
  /** How many of its latest requests followed an answer immediately, without one that did not. */
  rightBehind: number;
}

/** Observes when requests come, and decides how long an insert waits for more of them. */
export class InsertPace {
  /** `performance.now()` of the oldest request that no insert has taken; Infinity if there is none. */
  oldestAtMs = Number.POSITIVE_INFINITY;
  /** Called when a request has come. */
  onRequest: () => void = () => {};
  private readonly longestWaitMs: number;
  private readonly leastWaitMs: number;
  private readonly senders = new WeakMap<object, PacedSender>();
  private isBusySenderWaiting = false;
  /** Moving sums: bytes of all bodies; bytes and number of the independent requests, which did not follow an answer immediately. */
  private bytes = 0;
  private ownBytes = 0;
  private ownRequests = 0;
  private countedAtMs = 0;
  private lastCameAtMs = Number.NEGATIVE_INFINITY;

  /** @param longestWaitMs longest wait of the oldest request while no insert is in flight (BATCH_TIMEOUT_MS) */
  constructor(longestWaitMs: number) {
    this.longestWaitMs = longestWaitMs;
    this.leastWaitMs = Math.min(LEAST_WAIT_MS, longestWaitMs);
  }

  /** Notes that a request begins on `connection`. @returns its sender, whose `answeredAtMs` is to be set with the answer */
  begins(connection: object, nowMs = performance.now()): PacedSender {
    let sender = this.senders.get(connection);
    if (sender === undefined) this.senders.set(connection, (sender = { answeredAtMs: Number.NEGATIVE_INFINITY, rightBehind: 0 }));
    sender.rightBehind = nowMs - sender.answeredAtMs < RIGHT_BEHIND_MS ? sender.rightBehind + 1 : 0;
    return sender;
  }

  /** Notes that the body of a request has been read, and is in the open block or is being transcoded into it. */
  came(bodyBytes: number, { rightBehind }: PacedSender, nowMs = performance.now()): void {
    this.age(nowMs);
    this.bytes += bodyBytes;
    if (rightBehind === 0) {
      this.ownBytes += bodyBytes;
      this.ownRequests++;
    }
    if (rightBehind >= BUSY_REQUESTS) this.isBusySenderWaiting = true;
    this.lastCameAtMs = nowMs;
    this.oldestAtMs = Math.min(this.oldestAtMs, nowMs);
    this.onRequest();
  }

  /** Notes that an insert takes all requests that have come. */
  taken(): void {
    this.oldestAtMs = Number.POSITIVE_INFINITY;
    this.isBusySenderWaiting = false;
  }

  /** How long the oldest request may wait in total, in ms. It grows as further requests come. */
  waitMs(oldestAtMs: number, nowMs = performance.now()): number {
    this.age(nowMs);
    const usualGapMs = RECENT_MS / this.ownRequests;
    if (usualGapMs > MAX_GAP_MS || this.ownBytes < MIN_PART * this.bytes) return this.leastWaitMs;
    const longestMs = this.longestWaitMs * (this.isBusySenderWaiting ? BUSY_PART : 1);
    const quietAtMs = this.lastCameAtMs + Math.max(QUIET_MS, QUIET_GAPS * usualGapMs);
    return Math.max(this.leastWaitMs, Math.min(longestMs, quietAtMs - oldestAtMs));
  }

  private age(nowMs: number): void {
    const part = Math.exp((this.countedAtMs - nowMs) / RECENT_MS);
    this.bytes *= part;
    this.ownBytes *= part;
    this.ownRequests *= part;
    this.countedAtMs = nowMs;
  }
}
