/*
 * Decides when the next insert starts if senders wait for it, which is so without the disk buffer.
 *
 *   requests    │ │ │ │ │ │ │ │ │ │ │ │ │       │ │ █ │ │ █ │ │ █ │ │          │
 *   inserts     └── BATCH_TIMEOUT_MS ──▶│       └───▶└───▶└───▶                └▶│
 *               others keep coming              a busy sender among them       no more requests
 *
 * Each further request lowers ClickHouse's cost per span: waiting pays off while independent requests keep coming. A request is
 * dependent if it follows the answer on its connection immediately: its sender sends the next one only after this insert, so there
 * is no reason to wait for it. A sender that does so again and again is busy: waiting slows it down, so the wait is shorter.
 */

/** The shortest wait: requests often come in groups, and an insert for each is expensive. */
const LEAST_WAIT_MS = 20;

/** With a busy sender, the longest wait is this fraction of BATCH_TIMEOUT_MS. */
const BUSY_PART = 1 / 4;

/**
 * A request follows an answer immediately if it comes within this time (network, and the sender's own work), or within this fraction
 * of the time that the answer took. With pooled connections, independent requests do so by chance. As the limit is proportional to that
 * time, the chance is the same at every request rate. Because of such chance hits, a sender counts as busy only after many such requests.
 */
const RIGHT_BEHIND_MS = 15;
const RIGHT_BEHIND_PART = 1 / 6;

/** A sender is busy from this score on. A dependent request adds 1, an independent one takes 2 away. */
const BUSY_SCORE = 5;
const MAX_SCORE = BUSY_SCORE + 2;

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
  /** Its requests that have no answer yet. */
  inFlight: number;
  /** `performance.now()` when its last request started, and when the last answer was sent. */
  startedAtMs: number;
  answeredAtMs: number;
  /** Whether its last request followed an answer immediately. */
  isDependent: boolean;
  /** How often it sends dependent requests, see BUSY_SCORE. */
  score: number;
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
  /** Moving sums: bytes of all bodies; bytes and number of the independent requests. */
  private bytes = 0;
  private independentBytes = 0;
  private independentRequests = 0;
  private countedAtMs = 0;
  private lastReadAtMs = Number.NEGATIVE_INFINITY;

  /** @param longestWaitMs longest wait of the oldest request while no insert is in flight (BATCH_TIMEOUT_MS) */
  constructor(longestWaitMs: number) {
    this.longestWaitMs = longestWaitMs;
    this.leastWaitMs = Math.min(LEAST_WAIT_MS, longestWaitMs);
  }

  /** Notes that a request starts on `connection`. @returns its sender, for `countBody` and `endRequest` */
  startRequest(connection: object, nowMs = performance.now()): PacedSender {
    let sender = this.senders.get(connection);
    if (sender === undefined) this.senders.set(connection, (sender = newSender()));
    const { startedAtMs, answeredAtMs } = sender;
    const rightBehindMs = Math.max(RIGHT_BEHIND_MS, RIGHT_BEHIND_PART * (answeredAtMs - startedAtMs));
    // Requests that share a connection, as with HTTP/2, do not wait for each other.
    sender.isDependent = sender.inFlight === 0 && nowMs - answeredAtMs < rightBehindMs;
    sender.score = sender.isDependent ? Math.min(MAX_SCORE, sender.score + 1) : Math.max(0, sender.score - 2);
    sender.startedAtMs = nowMs;
    sender.inFlight++;
    return sender;
  }

  /** Notes that the body of a request has been read, and is in the open block or is being transcoded into it. */
  countBody(bodyBytes: number, { isDependent, score }: PacedSender, nowMs = performance.now()): void {
    this.age(nowMs);
    this.bytes += bodyBytes;
    if (!isDependent) {
      this.independentBytes += bodyBytes;
      this.independentRequests++;
    }
    if (score >= BUSY_SCORE) this.isBusySenderWaiting = true;
    this.lastReadAtMs = nowMs;
    this.oldestAtMs = Math.min(this.oldestAtMs, nowMs);
    this.onRequest();
  }

  /** Notes that a request is answered. */
  endRequest(sender: PacedSender, nowMs = performance.now()): void {
    sender.inFlight--;
    sender.answeredAtMs = nowMs;
  }

  /** Notes that an insert starts, which takes all requests whose bodies have been read. */
  startInsert(): void {
    this.oldestAtMs = Number.POSITIVE_INFINITY;
    this.isBusySenderWaiting = false;
  }

  /** How long the oldest request may wait in total, in ms. It grows as further requests come. */
  waitMs(oldestAtMs: number, nowMs = performance.now()): number {
    this.age(nowMs);
    const usualGapMs = RECENT_MS / this.independentRequests;
    if (usualGapMs > MAX_GAP_MS || this.independentBytes < MIN_PART * this.bytes) return this.leastWaitMs;
    const longestMs = this.longestWaitMs * (this.isBusySenderWaiting ? BUSY_PART : 1);
    const quietAtMs = this.lastReadAtMs + Math.max(QUIET_MS, QUIET_GAPS * usualGapMs);
    return Math.max(this.leastWaitMs, Math.min(longestMs, quietAtMs - oldestAtMs));
  }

  private age(nowMs: number): void {
    const part = Math.exp((this.countedAtMs - nowMs) / RECENT_MS);
    this.bytes *= part;
    this.independentBytes *= part;
    this.independentRequests *= part;
    this.countedAtMs = nowMs;
  }
}

function newSender(): PacedSender {
  return { inFlight: 0, startedAtMs: 0, answeredAtMs: Number.NEGATIVE_INFINITY, isDependent: false, score: 0 };
}
