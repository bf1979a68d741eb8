import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { DiskBuffer } from '../disk-buffer/disk-buffer.service.ts';
import { BlockQueue } from '../queue/block-queue.ts';
import { MemoryBudget } from '../queue/memory-budget.ts';
import { StorageService } from '../storage/storage.service.ts';
import { quantile } from '../telemetry/histogram.ts';
import { type RequestCounts, RequestTotals } from '../telemetry/request-counts.ts';
import { Series } from './series.ts';

const SAMPLE_MS = 1_000;
/** 15 minutes. */
const POINTS = 900;

/** The figures of one second. Response times in ms, age in s, fill from 0 to 1; NaN (in JSON null) if there was nothing to measure. */
export interface Sample {
  readonly accepted: number;
  readonly stored: number;
  /** Spans that are not stored: rejected permanently, or refused with a request to retry. */
  readonly rejected: number;
  readonly refusedRequests: number;
  readonly ackP50: number;
  readonly ackP99: number;
  readonly inserts: number;
  readonly insertSpans: number;
  readonly waiting: number;
  readonly oldest: number;
  readonly memory: number;
  readonly ring: number;
}

/** The counters of the services at one moment. */
interface Counted {
  readonly atMs: number;
  readonly accepted: number;
  readonly stored: number;
  readonly rejected: number;
  readonly refusedRequests: number;
  readonly inserts: number;
  readonly acks: Float64Array;
}

/** Records the figures of the status page every second, also while no page is open, and keeps them for 15 minutes. */
@Injectable()
export class Sampler implements OnApplicationBootstrap, OnApplicationShutdown {
  /** Called with each sample. */
  onSample: (sample: Sample) => void = () => {};
  private readonly series = new Map<string, Series>();
  private timer: NodeJS.Timeout | undefined;
  private last: Counted;

  constructor(
    private readonly requests: RequestTotals,
    private readonly storage: StorageService,
    private readonly queue: BlockQueue,
    private readonly budget: MemoryBudget,
    private readonly diskBuffer: DiskBuffer,
  ) {
    this.last = this.counted();
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => this.sample(), SAMPLE_MS).unref();
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  /** The recorded points of each figure, oldest first. */
  history(): Record<string, number[]> {
    return Object.fromEntries(Array.from(this.series, ([name, series]) => [name, series.values()]));
  }

  private sample(): void {
    const { last } = this;
    this.last = this.counted();
    const sample = this.between(last, this.last);
    for (const [name, value] of Object.entries(sample) as [string, number][]) {
      let series = this.series.get(name);
      if (series === undefined) this.series.set(name, (series = new Series(POINTS)));
      series.push(value);
    }
    this.onSample(sample);
  }

  private between(before: Counted, now: Counted): Sample {
    const seconds = (now.atMs - before.atMs) / 1000;
    const inserts = now.inserts - before.inserts;
    const acks = now.acks.map((count, bucket) => count - before.acks[bucket]);
    const { bounds } = this.requests.now.acknowledgeSeconds;
    const { waiting } = this.queue;
    const { ring } = this.diskBuffer;
    return {
      accepted: rounded((now.accepted - before.accepted) / seconds),
      stored: rounded((now.stored - before.stored) / seconds),
      rejected: rounded((now.rejected - before.rejected) / seconds),
      refusedRequests: rounded((now.refusedRequests - before.refusedRequests) / seconds),
      ackP50: rounded(quantile(0.5, bounds, acks) * 1000),
      ackP99: rounded(quantile(0.99, bounds, acks) * 1000),
      inserts: rounded(inserts / seconds),
      insertSpans: inserts === 0 ? Number.NaN : rounded((now.stored - before.stored) / inserts),
      waiting: waiting.rows,
      oldest: waiting.oldestAtMs === Infinity ? 0 : rounded((now.atMs - waiting.oldestAtMs) / 1000),
      memory: rounded(this.budget.usedBytes / this.budget.limitBytes),
      ring: ring === undefined ? Number.NaN : rounded(ring.usedBytes / ring.capacityBytes),
    };
  }

  private counted(): Counted {
    const { now } = this.requests;
    const { accepted, rejected, notStoredInTime, refusedRequests } = sumsOf(now);
    const { insertedRows: stored, inserts } = this.storage.stats;
    const acks = now.acknowledgeSeconds.counts.slice();
    return { atMs: performance.now(), accepted, stored, rejected: rejected + notStoredInTime, refusedRequests, inserts, acks };
  }
}

/** Sums of the counts since the start: of spans, except `refusedRequests`. */
export function sumsOf({ spans: { http, grpc }, rejectedSpans, refusedByStatus }: RequestCounts) {
  return {
    accepted: http.accepted + grpc.accepted,
    rejected: sum(Object.values(rejectedSpans)),
    notStoredInTime: http.refused + grpc.refused,
    refusedRequests: sum(Object.values(refusedByStatus)),
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** Rounds to three decimals: the figures are sent as text. */
function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
