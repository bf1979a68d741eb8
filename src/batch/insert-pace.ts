/*
 * When the next insert is due while its senders wait for the answer: without the disk buffer.
 *
 *   requests    │ │ │ │ │ │ │ │ │ │ │ │ │       │ │ █ │ │ █ │ │ █ │ │          │
 *   inserts     └── BATCH_TIMEOUT_MS ──▶│       └───▶└───▶└───▶                └▶│
 *               others keep coming              a busy sender among them       nobody else comes
 *
 * Each request more makes an insert cheaper for ClickHouse by the span: waiting is worth it while requests keep coming by
 * themselves. A busy sender has its next request ready when it gets its answer: it is slowed down by waiting, and the wait is shorter.
 * Requests that come right behind an answer are no reason to wait: their senders wait themselves.
 */

/** Requests often come several at once; an insert for each is expensive. */
const LEAST_WAIT_MS = 20;

/** With a busy sender, the longest wait is this part of BATCH_TIMEOUT_MS. */
const BUSY_PART = 1 / 4;

/** A request is right behind an answer if it comes within this time: the network's round trip, and what the sender takes. */
const RIGHT_BEHIND_MS = 50;

/** So many requests of a sender, each right behind the answer to the one before, make it a busy one: one alone may be chance. */
const BUSY_REQUESTS = 3;

/** If the others are further apart than this, or less than this part of the bytes, they are not worth waiting for. */
const MAX_GAP_MS = 60;
const MIN_PART = 1 / 10;

/** Nothing more is waited for when no request has come for so long, or for so many of the usual gaps. */
const QUIET_MS = 30;
const QUIET_GAPS = 2;

/** What came so long ago counts for a third (1/e) of what comes now. */
const RECENT_MS = 1_000;

/** Who sends on one connection. */
export interface PacedSender {
  answeredAtMs: number;
  /** Its last requests that came right behind an answer. */
  rightBehind: number;
}

/** Watches when requests come, and says how long an insert waits for more of them. */
export class InsertPace {
  /** When the first request came that no insert has taken; Infinity if there is none. */
  oldestAtMs = Number.POSITIVE_INFINITY;
  /** Called when a request has come. */
  onRequest: () => void = () => {};
  private readonly longestWaitMs: number;
  private readonly leastWaitMs: number;
  private readonly senders = new WeakMap<object, PacedSender>();
  private isBusySenderWaiting = false;
  /** Of late: bytes of all bodies, and bytes and number of those that did not come right behind an answer. */
  private bytes = 0;
  private ownBytes = 0;
  private ownRequests = 0;
  private countedAtMs = 0;
  private lastCameAtMs = Number.NEGATIVE_INFINITY;

  /** @param longestWaitMs of the oldest request, while no insert is under way (BATCH_TIMEOUT_MS) */
  constructor(longestWaitMs: number) {
    this.longestWaitMs = longestWaitMs;
    this.leastWaitMs = Math.min(LEAST_WAIT_MS, longestWaitMs);
  }

  /** A request begins on this connection. @returns its sender, who is to be told of its answer */
  begins(connection: object, nowMs = performance.now()): PacedSender {
    let sender = this.senders.get(connection);
    if (sender === undefined) this.senders.set(connection, (sender = { answeredAtMs: Number.NEGATIVE_INFINITY, rightBehind: 0 }));
    sender.rightBehind = nowMs - sender.answeredAtMs < RIGHT_BEHIND_MS ? sender.rightBehind + 1 : 0;
    return sender;
  }

  /** The body of a request has come, and is in the open block or on its way there. */
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

  /** An insert takes all that has come. */
  taken(): void {
    this.oldestAtMs = Number.POSITIVE_INFINITY;
    this.isBusySenderWaiting = false;
  }

  /** How long the oldest request may wait altogether, in ms, as things are now: more as others come. */
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
