import type { CountCells } from './count-cells.ts';
import { Histogram, SECONDS } from './histogram.ts';

const TRANSPORTS = ['http', 'grpc'] as const;
/** How a request came in. */
export type Transport = (typeof TRANSPORTS)[number];

/** Why acknowledged spans are lost, in the words of the metric's label. */
const DROP_REASONS = ['no_room', 'too_large', 'shutdown'] as const;
export type DropReason = (typeof DROP_REASONS)[number];

const BACKPRESSURE_REASONS = ['memory', 'process_memory', 'target_memory', 'target_rate', 'storage', 'shutdown'] as const;
/** Why requests are refused that are in order, in the words of the metric's label. */
export type BackpressureReason = (typeof BACKPRESSURE_REASONS)[number];
/** Requests refused, by reason. */
export type BackpressureCounts = Record<BackpressureReason, number>;

const REJECT_REASONS = ['bad_id', 'bad_time', 'too_large', 'refused'] as const;
const ADJUST_REASONS = ['no_start', 'late_time', 'unknown_enum'] as const;
const STATUSES = [400, 401, 403, 404, 405, 408, 413, 415, 429, 431, 500, 503] as const;
const BLOCK_BYTES = Array.from({ length: 9 }, (_, power) => 1024 * 4 ** power); // 1 KB to 64 MB

/** Doubles of all that is counted: enough for what `RequestCounts` takes, and 0 where it takes none. */
export const COUNTS_LENGTH = 128;

/**
 * All that is counted of requests up to the queue. Each number is a double in one block of memory, which another thread can read:
 * an aligned double is written and read as a whole on every processor that Node runs on. Only one thread writes a block.
 */
export class RequestCounts {
  /** What goes up and down, and is 0 again when the thread that counts it has ended. */
  readonly open;
  /** Parsed spans, by what became of them. */
  readonly spans;
  /** Spans that were acknowledged at once (ACK_MODE=received), and could then not be kept. */
  readonly dropped;
  /** Spans left out of requests otherwise taken. */
  readonly rejectedSpans;
  /** Spans stored with another value than they came with. */
  readonly adjustedSpans;
  /** Requests refused for want of room, by reason. */
  readonly backpressure: BackpressureCounts;
  /** Requests refused, by HTTP status; gRPC calls under the one that HTTP would have. */
  readonly refusedByStatus;
  readonly auth;
  readonly totals;
  /** From when a request is let in until its spans are acknowledged, of those that are. */
  readonly acknowledgeSeconds: Histogram;
  /** Compressed size of blocks, in bytes. */
  readonly blockBytes: Histogram;

  /** @param cells `COUNTS_LENGTH` doubles */
  constructor(cells: Float64Array = new Float64Array(COUNTS_LENGTH)) {
    let taken = 0;
    const take = (length: number) => cells.subarray(taken, (taken += length));
    const record = <const Name extends string | number>(names: readonly Name[]) => numbersIn(take(names.length), names);
    // First: `resetOpen` relies on it.
    this.open = record(OPEN);
    this.spans = { http: record(['accepted', 'refused']), grpc: record(['accepted', 'refused']) } as const;
    this.dropped = record(DROP_REASONS);
    this.rejectedSpans = record(REJECT_REASONS);
    this.adjustedSpans = record(ADJUST_REASONS);
    this.backpressure = record(BACKPRESSURE_REASONS);
    this.refusedByStatus = record(STATUSES);
    this.auth = record(AUTH);
    this.totals = record(['bodyBytes', 'droppedConnections']);
    this.acknowledgeSeconds = new Histogram(SECONDS, take(SECONDS.length + 2));
    this.blockBytes = new Histogram(BLOCK_BYTES, take(BLOCK_BYTES.length + 2));
  }
}

/** Of requests, save the lookups at Hive. */
const AUTH = [
  'accepted',
  // Hive refused them, also from the cache. Requests with missing headers don't count.
  'refused',
  // Answered 503.
  'unavailable',
  // Answered from the cache, within the TTL.
  'cacheHits',
  // Accepted after the TTL, because Hive did not answer.
  'staleServed',
  // At Hive. Its retries are part of a lookup.
  'lookups',
  'lookupFailures',
] as const;

/** Requests that are let in and not answered yet; connections, by port. */
const OPEN = ['requests', 'httpConnections', 'grpcConnections'] as const;

/** Sets what is open to 0: the thread that has counted it is gone. @param cells those of a `RequestCounts` */
export function resetOpen(cells: Float64Array): void {
  cells.fill(0, 0, OPEN.length);
}

/** Numbers by name that are kept in `cells`, in this order. */
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

/** The counts of the whole process, for those who show them. */
export abstract class RequestTotals {
  /** As of now. To be read at once, and not to be written. */
  abstract readonly now: RequestCounts;
}

/** The sums over all threads, made when they are read. */
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
