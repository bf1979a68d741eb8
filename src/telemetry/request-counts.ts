import { REFUSAL_STATUSES } from '../otlp/refusal.ts';
import { ADJUST_REASONS } from '../transcode/columns/adjustment.ts';
import { REJECT_REASONS } from '../transcode/columns/rejection.ts';
import type { CountCells } from './count-cells.ts';
import { Histogram, SECONDS } from './histogram.ts';

const TRANSPORTS = ['http', 'grpc'] as const;
/** The transport of a request. */
export type Transport = (typeof TRANSPORTS)[number];

/** Why acknowledged spans are lost: values of the metric's label `reason`. */
const DROP_REASONS = ['no_room', 'too_large', 'shutdown'] as const;
export type DropReason = (typeof DROP_REASONS)[number];

const BACKPRESSURE_REASONS = ['memory', 'process_memory', 'target_memory', 'target_rate', 'storage', 'shutdown'] as const;
/** Valid requests that are refused, by reason: the values of the metric's label `reason`. */
export type BackpressureCounts = Record<(typeof BACKPRESSURE_REASONS)[number], number>;

const BLOCK_BYTES = Array.from({ length: 9 }, (_, power) => 1024 * 4 ** power); // 1 KB to 64 MB

/** The length of the memory of `RequestCounts`, in doubles: more than it uses; the rest stays 0. */
export const COUNTS_LENGTH = 128;

/**
 * The counts of requests up to the queue. Each is a double in one memory block, which other threads can read: an aligned double is
 * written and read atomically on every processor that Node supports. Only one thread writes a block.
 */
export class RequestCounts {
  /** Requests and connections that are open now; set to 0 when their thread has ended. */
  readonly open;
  /** Parsed spans by transport and outcome. */
  readonly spans;
  /** Spans that were acknowledged at once (ACK_MODE=received) and then lost, by reason. */
  readonly dropped;
  /** Spans rejected from requests that were otherwise accepted, by reason. */
  readonly rejectedSpans;
  /** Spans stored with a changed value, by reason. */
  readonly adjustedSpans;
  /** Requests refused because of backpressure, by reason. */
  readonly backpressure: BackpressureCounts;
  /** Refused requests by HTTP status; for gRPC calls, by the corresponding one. */
  readonly refusedByStatus;
  readonly auth;
  readonly totals;
  /** Time from the admission of a request until its spans are acknowledged. */
  readonly acknowledgeSeconds: Histogram;
  /** Compressed size of blocks, in bytes. */
  readonly blockBytes: Histogram;

  /** @param cells `COUNTS_LENGTH` doubles */
  constructor(cells: Float64Array = new Float64Array(COUNTS_LENGTH)) {
    let taken = 0;
    const take = (length: number) => cells.subarray(taken, (taken += length));
    const record = <const Name extends string | number>(names: readonly Name[]) => numbersIn(take(names.length), names);
    // The first of all: `resetOpen` relies on that.
    this.open = record(OPEN);
    this.spans = { http: record(['accepted', 'refused']), grpc: record(['accepted', 'refused']) } as const;
    this.dropped = record(DROP_REASONS);
    this.rejectedSpans = record(REJECT_REASONS);
    this.adjustedSpans = record(ADJUST_REASONS);
    this.backpressure = record(BACKPRESSURE_REASONS);
    this.refusedByStatus = record(REFUSAL_STATUSES);
    this.auth = record(AUTH);
    this.totals = record(['bodyBytes', 'droppedConnections']);
    this.acknowledgeSeconds = new Histogram(SECONDS, take(SECONDS.length + 2));
    this.blockBytes = new Histogram(BLOCK_BYTES, take(BLOCK_BYTES.length + 2));
  }
}

/** Counts of requests, except the lookups. */
const AUTH = [
  'accepted',
  // By Hive's answer, also from the cache. Requests with missing headers don't count.
  'refused',
  // Answered 503.
  'unavailable',
  // Answered from the cache, within the TTL.
  'cacheHits',
  // Accepted after the TTL, because Hive did not answer.
  'staleServed',
  // Requests to Hive. Retries are part of a lookup.
  'lookups',
  'lookupFailures',
] as const;

/** Requests in flight, and connections by port. */
const OPEN = ['requests', 'httpConnections', 'grpcConnections'] as const;

/** Sets the open requests and connections of a thread that has ended to 0. @param cells the memory of its `RequestCounts` */
export function resetOpen(cells: Float64Array): void {
  cells.fill(0, 0, OPEN.length);
}

/** An object with these names as properties, whose values are in `cells` in the same order. */
function numbersIn<Name extends string | number>(cells: Float64Array, names: readonly Name[]): Record<Name, number> {
  const numbers = {} as Record<Name, number>;
  names.forEach((name, at) => {
    Object.defineProperty(numbers, name, {
      enumerable: true,
      get: () => cells[at],
      set(value: number) {
        cells[at] = value;
      },
    });
  });
  return numbers;
}

/** The counts of the whole process. */
export abstract class RequestTotals {
  /** The current counts. Read them immediately, and don't change them. */
  abstract readonly now: RequestCounts;
}

/** The sums over all threads, calculated when they are read. */
export class SumsOfThreads implements RequestTotals {
  private readonly sums = new Float64Array(COUNTS_LENGTH);
  private readonly counts = new RequestCounts(this.sums);
  private readonly cells: CountCells;

  constructor(cells: CountCells) {
    this.cells = cells;
  }

  get now(): RequestCounts {
    const { sums } = this;
    sums.fill(0);
    for (const cells of this.cells.all) for (let at = 0; at < sums.length; at++) sums[at] += cells[at];
    return this.counts;
  }
}
