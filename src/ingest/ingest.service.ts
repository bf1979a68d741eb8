import type { IncomingHttpHeaders } from 'node:http';
import { Inject, Injectable } from '@nestjs/common';
import type { Target } from '../auth/target.ts';
import type { Accepted } from '../blocks/open-block.ts';
import type { BodyLimits } from '../bodies/request-body.ts';
import { type AdmissionControls, memoryRefusal, refusedFor, Reservation } from '../bodies/reservation.ts';
import { TargetLimits, type TargetUsage } from '../bodies/target-limits.ts';
import { InsertPace, type PacedSender } from '../batch/insert-pace.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import type { Encoding } from '../otlp/encoding.ts';
import { Refusal, type RefusalStatus, shuttingDown, tooLarge } from '../otlp/refusal.ts';
import { BlockSink } from '../queue/block-queue.ts';
import { MemoryBudget } from '../queue/memory-budget.ts';
import type { RowsRefused } from '../queue/rows-refused.ts';
import { type DropReason, RequestCounts, type Transport } from '../telemetry/request-counts.ts';
import { refusedSpans } from '../transcode/columns/rejection.ts';
import { TopTargets } from './top-targets.ts';

/** An admitted request. `leave` must be called for it once. */
export interface Admitted {
  readonly transport: Transport;
  readonly target: Target;
  readonly encoding: Encoding;
  /** Reserves the memory of its body. */
  readonly memory: Reservation;
  readonly usage: TargetUsage;
  readonly atMs: number;
  readonly sender: PacedSender;
}

/** Decides whether requests are admitted, and counts those in flight. */
@Injectable()
export class IngestService {
  readonly topTargets: TopTargets;
  private readonly config: Config;
  private readonly counts: RequestCounts;
  private readonly queue: BlockSink;
  private readonly pace: InsertPace;
  private readonly controls: AdmissionControls;
  /** The limits of each request's body. */
  readonly bodyLimits: BodyLimits;
  /** Set when the shutdown begins: no request is admitted, and answers close their connections. */
  closed = false;
  private readonly idle = Promise.withResolvers<void>();

  constructor(
    @Inject(collectorConfig.KEY) config: Config,
    queue: BlockSink,
    budget: MemoryBudget,
    targets: TargetLimits,
    pace: InsertPace,
    counts: RequestCounts,
  ) {
    this.config = config;
    this.counts = counts;
    this.queue = queue;
    this.pace = pace;
    this.controls = { budget, targets, refused: counts.backpressure };
    this.topTargets = new TopTargets(config.METRICS_TOP_TARGETS);
    this.bodyLimits = { maxBytes: config.MAX_REQUEST_MB * 1024 ** 2, timeoutMs: config.REQUEST_TIMEOUT_MS };
  }

  /** The number of requests that are admitted and not answered yet. */
  get inFlight(): number {
    return this.counts.open.requests;
  }

  /** The reason for which requests are refused; undefined if they are admitted. */
  refusal(): Error | undefined {
    if (this.closed) return shuttingDown();
    const shortage = this.controls.budget.shortage();
    return shortage === undefined ? this.queue.refusal() : memoryRefusal(shortage);
  }

  /**
   * Admits a request before its body is read. `TracesService.store` handles it from then on, and calls `leave` at the end.
   * @param connection an object that identifies the connection
   * @param bodyBytes the body's length, if it is known
   * @throws Refusal 413 when the body is too long, 429 when its target is over its limits, 503 when no request is admitted
   */
  admit(transport: Transport, connection: object, target: Target, encoding: Encoding, bodyBytes = 0): Admitted {
    // First, because a sender that gets a Retry-After for a body that is always too long would retry forever.
    const neverTaken = this.refusalOfLength(bodyBytes);
    if (neverTaken !== undefined) throw neverTaken;
    this.requireRoom(bodyBytes);
    const atMs = performance.now();
    const usage = this.controls.targets.of(target.id);
    this.requireShare(usage, bodyBytes);
    this.counts.open.requests++;
    usage.requests++;
    return {
      transport,
      target,
      encoding,
      memory: new Reservation(this.controls, usage),
      usage,
      atMs,
      sender: this.pace.startRequest(connection, atMs),
    };
  }

  /** Counts a body that has been read and is being transcoded: its spans can be inserted soon. */
  countBody({ sender }: Admitted, bodyBytes: number): void {
    this.pace.countBody(bodyBytes, sender);
  }

  /**
   * Resolves when the spans of a request may be acknowledged; undefined if they may be now. Rejects with a Refusal 413, 500 or 503 when
   * they are not stored.
   */
  whenStored({ usage }: Admitted, { accepted, rejections, adjustments, durable }: Accepted): Promise<void> | undefined {
    const { rejectedSpans, adjustedSpans } = this.counts;
    if (rejections !== undefined) for (const { reason, spans } of rejections) rejectedSpans[reason] += spans;
    if (adjustments !== undefined) for (const { reason, spans } of adjustments) adjustedSpans[reason] += spans;
    this.controls.targets.charge(usage, accepted);
    if (this.config.ACK_MODE === 'durable') return durable;
    durable.catch((error: unknown) => this.drop(accepted, error));
    return undefined;
  }

  /** Counts the acknowledged spans of a request. */
  acknowledged({ transport, target, atMs }: Admitted, { accepted }: Accepted): void {
    this.counts.spans[transport].accepted += accepted;
    this.counts.acknowledgeSeconds.observe((performance.now() - atMs) / 1000);
    this.topTargets.count(target.id, accepted);
  }

  /**
   * The part of a request that is acknowledged if ClickHouse refuses some rows of its block; undefined if all its rows are refused. The
   * refused spans are reported as rejected, as those with invalid ids are: a retry would store the others twice.
   */
  storedInPart({ usage }: Admitted, request: Accepted, error: RowsRefused): Accepted | undefined {
    const { accepted, firstRow, rejected, rejections = [] } = request;
    const refused = error.countIn(firstRow, firstRow + accepted);
    if (refused === 0) return request;
    if (refused === accepted) return undefined;
    this.counts.rejectedSpans.refused += refused;
    this.controls.targets.refund(usage, refused);
    return { ...request, accepted: accepted - refused, rejected: rejected + refused, rejections: [...rejections, refusedSpans(refused)] };
  }

  /** Counts the spans of a request that are not stored: their sender retries. */
  notStored({ transport, usage }: Admitted, { accepted }: Accepted): void {
    this.counts.spans[transport].refused += accepted;
    this.controls.targets.refund(usage, accepted);
  }

  /** Ends a request. Must be called once, when it is answered. */
  leave({ usage, sender }: Admitted): void {
    this.pace.endRequest(sender);
    usage.requests--;
    this.counts.open.requests--;
    if (this.closed && this.inFlight === 0) this.idle.resolve();
  }

  /** Admits no further requests. Resolves when all requests in flight are answered. */
  close(): Promise<void> {
    this.closed = true;
    if (this.inFlight === 0) this.idle.resolve();
    return this.idle.promise;
  }

  /** The refusal of a body that is too long: 413; undefined if its length is allowed. */
  refusalOfLength(bodyBytes: number): Refusal | undefined {
    const { maxBytes } = this.bodyLimits;
    return bodyBytes > maxBytes ? tooLarge(maxBytes / 1024 ** 2) : undefined;
  }

  private requireRoom(bodyBytes: number): void {
    if (this.closed) {
      this.counts.backpressure.shutdown++;
      throw shuttingDown();
    }
    const shortage = this.controls.budget.shortage(bodyBytes);
    if (shortage !== undefined) throw refusedFor(shortage, this.controls);
    const refusal = this.queue.refusal();
    if (refusal === undefined) return;
    this.counts.backpressure.storage++;
    throw refusal;
  }

  private requireShare(usage: TargetUsage, bodyBytes: number): void {
    const { budget, refused, targets } = this.controls;
    const overRate = targets.overRate(usage);
    if (overRate !== undefined) {
      refused.target_rate++;
      throw overRate;
    }
    if (usage.bytes === 0) return;
    const overShare = targets.overShare(usage.bytes + bodyBytes, budget.freeBytes);
    if (overShare === undefined) return;
    refused.target_memory++;
    throw overShare;
  }

  private drop(spans: number, error: unknown): void {
    const reason = this.dropReason(error instanceof Refusal ? error.status : 503);
    if (reason !== undefined) this.counts.dropped[reason] += spans;
  }

  /** Undefined if the spans are not lost: those that ClickHouse permanently refuses are kept as a dead letter. */
  private dropReason(status: RefusalStatus): DropReason | undefined {
    if (status === 500) return undefined;
    if (status === 413) return 'too_large';
    return this.closed ? 'shutdown' : 'no_room';
  }
}

/** The value of Content-Length; 0 without one. */
export function declaredBytes(headers: IncomingHttpHeaders): number {
  return Number(headers['content-length'] ?? 0);
}
