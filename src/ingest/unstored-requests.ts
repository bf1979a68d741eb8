import { Inject, Injectable } from '@nestjs/common';
import type { Accepted } from '../blocks/open-block.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { notStoredInTime } from '../otlp/refusal.ts';
import { type BlockFate, REPEATED_WITHIN_MS } from '../queue/block-fate.ts';
import { RowsRefused } from '../queue/rows-refused.ts';

/** No exporter gives up and sends again sooner than this. The same body that comes sooner is another request: load generators send such. */
const REPEATED_AFTER_MS = 1_000;
/** Each takes about 300 bytes. */
const MAX_REQUESTS = 32_768;

interface Unstored {
  readonly accepted: Accepted & { readonly fate: BlockFate };
  readonly atMs: number;
  /** Its sender was told to send it again. */
  isRefused: boolean;
}

/** Requests whose spans are not known to be stored, by what identifies them. */
export abstract class EarlierRequests {
  /** The spans of an earlier request that this one repeats; undefined if it is the first. */
  abstract join(identity: string): Accepted | undefined | Promise<Accepted | undefined>;
  /** Remembers the first request of this identity. */
  abstract add(identity: string, accepted: Accepted): void;
}

/**
 * Requests whose spans are in memory and not known to be in ClickHouse, by what identifies them (RepeatedRequests). A sender whose
 * request was answered 503, or who has given up, repeats it; if the block with its spans is still on its way, the repeated request
 * waits for that block, and its spans are not stored a second time.
 *
 * A request is forgotten when it is acknowledged, in whole or in part, or refused for good: the same body after that is a new request.
 */
@Injectable()
export class UnstoredRequests extends EarlierRequests {
  /** Spans acknowledged by a repeated request, and stored once for it and the one that it repeats. */
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
    const { fate, durable } = accepted;
    // Without spans there is none. Of two that came at once, the first is remembered.
    if (fate === undefined || this.byIdentity.has(identity)) return;
    const unstored: Unstored = { accepted: { ...accepted, fate }, atMs: performance.now(), isRefused: false };
    this.byIdentity.set(identity, unstored);
    durable.then(
      () => this.forget(identity, unstored),
      (error: unknown) => {
        // Its sender has been told what became of each span, and has nothing to repeat.
        if (error instanceof RowsRefused) this.forget(identity, unstored);
        else unstored.isRefused = true;
      },
    );
    this.forgetOldest();
  }

  private find(identity: string): Unstored | undefined {
    const first = this.byIdentity.get(identity);
    if (first === undefined) return undefined;
    const { outcome } = first.accepted.fate;
    const ageMs = performance.now() - first.atMs;
    const isThrownAway = outcome instanceof Error && !(outcome instanceof RowsRefused);
    if (isThrownAway || ageMs > REPEATED_WITHIN_MS) {
      this.byIdentity.delete(identity);
      return undefined;
    }
    return first.isRefused || ageMs >= REPEATED_AFTER_MS ? first : undefined;
  }

  private waitFor(identity: string, first: Unstored): Accepted {
    const { accepted } = first;
    const durable = accepted.fate.whenStored(this.ackTimeoutMs, notStoredInTime);
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
