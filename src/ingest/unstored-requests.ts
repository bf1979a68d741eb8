import { createHash, hash } from 'node:crypto';
import { setImmediate as nextTick } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import type { Accepted } from '../blocks/open-block.ts';
import type { Body } from '../bodies/request-body.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import type { Encoding } from '../otlp/encoding.ts';
import { notStoredInTime } from '../otlp/refusal.ts';
import { type BlockFate, REPEATED_WITHIN_MS } from '../queue/block-fate.ts';
import { BlockQueue } from '../queue/block-queue.ts';
import { RowsRefused } from '../queue/rows-refused.ts';

/**
 * While inserts are quick, so many bytes of bodies are hashed a second: 0.5 µs a KB and 1.5 µs a body, less than 0.3 % of a processor.
 * Under more load than that, those that were not hashed when inserts become slow are not recognized when they are repeated.
 */
const HASHED_BYTES_PER_SECOND = 2 * 1024 ** 2;
/** What a shorter body counts as, since remembering a request takes as long as hashing this. */
const LEAST_BYTES = 4 * 1024;
/** Bytes that are hashed before the event loop goes on: half a millisecond's worth. */
const SLICE_BYTES = 1024 * 1024;
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

/**
 * Requests whose spans are in memory and not known to be in ClickHouse, by what identifies them: target, encoding, and the
 * SHA-256 of the body. A sender whose request was answered 503, or who has given up, repeats it; if the block with its spans is
 * still on its way, the repeated request waits for that block, and its spans are not stored a second time.
 *
 * A request is forgotten when it is acknowledged, in whole or in part, or refused for good: the same body after that is a new request.
 */
@Injectable()
export class UnstoredRequests {
  /** Spans acknowledged by a repeated request, and stored once for it and the one that it repeats. */
  joinedSpans = 0;
  private readonly byIdentity = new Map<string, Unstored>();
  private readonly queue: BlockQueue;
  private readonly isOn: boolean;
  private readonly ackTimeoutMs: number;
  private secondBeganAtMs = Number.NEGATIVE_INFINITY;
  private hashedBytes = 0;

  constructor(@Inject(collectorConfig.KEY) config: Config, queue: BlockQueue) {
    this.queue = queue;
    this.isOn = config.JOIN_REPEATED_REQUESTS && config.ACK_MODE === 'durable';
    this.ackTimeoutMs = config.ACK_TIMEOUT_MS;
  }

  /**
   * The spans of a request: those of an earlier one that it repeats, or what `transcode` makes of it.
   * Frees the body in the first case; in the second, `transcode` does.
   * @throws what `transcode` throws
   */
  take(body: Body, encoding: Encoding, targetId: string, transcode: () => Accepted | Promise<Accepted>): Accepted | Promise<Accepted> {
    if (!this.isOn || !this.isHashed(body.length)) return transcode();
    const identity = `${encoding} ${targetId}\n`;
    if (body.length > SLICE_BYTES) return digestInSlices(body).then((digest) => this.joinOr(identity + digest, body, transcode));
    return this.joinOr(identity + digestOf(body), body, transcode);
  }

  /** Whether a body is worth hashing: where inserts are quick and many, next to no request is repeated. */
  private isHashed(bytes: number): boolean {
    if (this.queue.isDurableAtOnce) return false;
    if (!this.queue.isQuick) return true;
    const nowMs = performance.now();
    if (nowMs - this.secondBeganAtMs > 1_000) {
      this.secondBeganAtMs = nowMs;
      this.hashedBytes = 0;
    }
    if (this.hashedBytes >= HASHED_BYTES_PER_SECOND) return false;
    this.hashedBytes += Math.max(bytes, LEAST_BYTES);
    return true;
  }

  private joinOr(identity: string, body: Body, transcode: () => Accepted | Promise<Accepted>): Accepted | Promise<Accepted> {
    const first = this.find(identity);
    if (first !== undefined) {
      body.free();
      body.memory.releaseBody();
      return this.join(identity, first);
    }
    const transcoded = transcode();
    return transcoded instanceof Promise ? transcoded.then((accepted) => this.add(identity, accepted)) : this.add(identity, transcoded);
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

  private join(identity: string, first: Unstored): Accepted {
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

  private add(identity: string, accepted: Accepted): Accepted {
    const { fate, durable } = accepted;
    // Without spans there is none. Of two that came at once, the first is remembered.
    if (fate === undefined || this.byIdentity.has(identity)) return accepted;
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
    return accepted;
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

function digestOf({ chunks }: Body): string {
  if (chunks.length === 1) return hash('sha256', chunks[0], 'latin1');
  const sha256 = createHash('sha256');
  for (const chunk of chunks) sha256.update(chunk);
  return sha256.digest('latin1');
}

async function digestInSlices({ chunks }: Body): Promise<string> {
  const sha256 = createHash('sha256');
  let bytes = 0;
  for (const chunk of chunks) {
    sha256.update(chunk);
    bytes += chunk.length;
    if (bytes < SLICE_BYTES) continue;
    bytes = 0;
    await nextTick();
  }
  return sha256.digest('latin1');
}
