import { Inject, Injectable } from '@nestjs/common';
import type { Accepted } from '../blocks/open-block.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { notStoredInTime } from '../otlp/refusal.ts';
import { type BlockOutcome, REPEATED_WITHIN_MS } from '../queue/block-outcome.ts';
import { RowsRefused } from '../queue/rows-refused.ts';

/** No exporter times out and retries earlier than this. The same body within this time is a new request, as load generators send them. */
const REPEATED_AFTER_MS = 1_000;
/** Limit of the kept requests. Each takes about 300 bytes. */
const MAX_REQUESTS = 32_768;

interface Unstored {
  readonly accepted: Accepted & { readonly outcome: BlockOutcome };
  readonly atMs: number;
  /** Whether it was answered with an error that asks for a retry. */
  isRefused: boolean;
}

/** Earlier requests whose spans may not be stored yet, by identity: target, encoding and hash of the body. */
export abstract class EarlierRequests {
  /** Returns the spans of the earlier request with this identity; undefined if there is none. */
  abstract join(identity: string): Accepted | undefined | Promise<Accepted | undefined>;
  /** Adds the first request with this identity. */
  abstract add(identity: string, accepted: Accepted): void;
}

/**
 * Requests whose spans are in memory, and may not be in ClickHouse yet. A sender repeats a request that was answered 503 or has timed
 * out. If the block with its spans is still in the queue or in flight, the repeated request waits for that block, and its spans are not
 * stored a second time.
 *
 * A request is removed when it is acknowledged, also in part, or permanently refused: after that, the same body is a new request.
 */
@Injectable()
export class UnstoredRequests extends EarlierRequests {
  /** Spans acknowledged to a repeated request, and stored once for both requests. */
  joinedSpans = 0;
  private readonly byIdentity = new Map<string, Unstored>();
  private readonly ackTimeoutMs: number;

  constructor(@Inject(collectorConfig.KEY) config: Config) {
    super();
    this.ackTimeoutMs = config.ACK_TIMEOUT_MS;
  }

  join(identity: string): Accepted | undefined {
    const first = this.find(identity);
    return first === undefined ? undefined : this.waitFor(identity, first);
  }

  add(identity: string, accepted: Accepted): void {
    const { outcome, durable } = accepted;
    // Without spans there is no outcome. Of two equal requests at the same time, the first is kept.
    if (outcome === undefined || this.byIdentity.has(identity)) return;
    const unstored: Unstored = { accepted: { ...accepted, outcome }, atMs: performance.now(), isRefused: false };
    this.byIdentity.set(identity, unstored);
    durable.then(
      () => this.forget(identity, unstored),
      (error: unknown) => {
        // The answer reports the outcome of each span: there is nothing to retry.
        if (error instanceof RowsRefused) this.forget(identity, unstored);
        else unstored.isRefused = true;
      },
    );
    this.forgetOldest();
  }

  private find(identity: string): Unstored | undefined {
    const first = this.byIdentity.get(identity);
    if (first === undefined) return undefined;
    const { result } = first.accepted.outcome;
    const ageMs = performance.now() - first.atMs;
    const isDropped = result instanceof Error && !(result instanceof RowsRefused);
    if (isDropped || ageMs > REPEATED_WITHIN_MS) {
      this.byIdentity.delete(identity);
      return undefined;
    }
    return first.isRefused || ageMs >= REPEATED_AFTER_MS ? first : undefined;
  }

  private waitFor(identity: string, first: Unstored): Accepted {
    const { accepted } = first;
    const durable = accepted.outcome.whenStored(this.ackTimeoutMs, notStoredInTime);
    const stored = (refused: number) => {
      this.joinedSpans += accepted.accepted - refused;
      this.forget(identity, first);
    };
    durable.then(
      () => stored(0),
      (error: unknown) => {
        if (error instanceof RowsRefused) stored(error.countIn(accepted.firstRow, accepted.firstRow + accepted.accepted));
      },
    );
    return { ...accepted, durable };
  }

  private forget(identity: string, unstored: Unstored): void {
    if (this.byIdentity.get(identity) === unstored) this.byIdentity.delete(identity);
  }

  private forgetOldest(): void {
    const oldAtMs = performance.now() - REPEATED_WITHIN_MS;
    for (const [identity, { atMs }] of this.byIdentity) {
      if (atMs > oldAtMs && this.byIdentity.size <= MAX_REQUESTS) return;
      this.byIdentity.delete(identity);
    }
  }
}
