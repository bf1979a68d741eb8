import type { BlockQueue } from '../batch/block-queue.ts';
import type { MemoryBudget } from '../batch/memory-budget.ts';
import type { BlockEncoder } from '../transcode/block-encoder.ts';
import type { Encoding, Transcoded } from '../transcode/transcoder.ts';
import type { Body } from './request-body.ts';

/** Bytes of request bodies at which a block is sealed without waiting longer: larger blocks compress no better. */
const SEAL_BYTES = 1024 * 1024;

/** A request whose spans are parsed. `durable` resolves when they may be acknowledged, and rejects with the Refusal if they can't be. */
export interface Accepted extends Transcoded {
  readonly durable: Promise<void>;
}

/**
 * The block that small requests are gathered in. It is sealed, and queued, `sealIntervalMs` after the one
 * before it, or at once if that is longer ago.
 * All requests in it are acknowledged together.
 */
export class OpenBlock {
  private readonly encoder: BlockEncoder;
  private readonly queue: BlockQueue;
  private readonly budget: MemoryBudget;
  private readonly sealIntervalMs: number;
  private durable: PromiseWithResolvers<void> | undefined;
  private timer: NodeJS.Timeout | undefined;
  private bodyBytes = 0;
  private sealedAtMs = Number.NEGATIVE_INFINITY;

  constructor(encoder: BlockEncoder, sealIntervalMs: number, queue: BlockQueue, budget: MemoryBudget) {
    this.encoder = encoder;
    this.sealIntervalMs = sealIntervalMs;
    this.queue = queue;
    this.budget = budget;
  }

  /**
   * Adds the spans of a request, and takes over what its body has reserved in the memory budget.
   * @throws MalformedRequest; nothing of the request is stored then, and the reservation is released
   */
  add(body: Body, encoding: Encoding, targetId: string): Accepted {
    this.bodyBytes += body.length;
    let transcoded: Transcoded;
    try {
      transcoded = this.encoder.add(body.pieces, encoding, targetId);
    } finally {
      if (this.encoder.rows === 0) this.releaseBodies();
    }
    if (transcoded.accepted === 0) return { ...transcoded, durable: NOTHING_TO_STORE };
    this.durable ??= Promise.withResolvers<void>();
    const { promise } = this.durable;
    if (this.bodyBytes >= SEAL_BYTES) this.seal();
    else this.timer ??= setTimeout(() => this.seal(), this.sealDelayMs());
    return { ...transcoded, durable: promise };
  }

  /** Queues the block now, if there is anything in it. */
  seal(): void {
    const { durable } = this;
    if (durable === undefined) return;
    this.sealedAtMs = performance.now();
    clearTimeout(this.timer);
    this.timer = undefined;
    this.durable = undefined;
    this.releaseBodies();
    this.queue.push(this.encoder.seal()).then(durable.resolve, durable.reject);
    // With ACK_MODE=received nobody listens.
    durable.promise.catch(() => {});
  }

  /** Blocks are sealed `sealIntervalMs` apart. Whoever comes after a pause waits for nobody: others who came just then go along. */
  private sealDelayMs(): number {
    return Math.max(0, this.sealedAtMs + this.sealIntervalMs - performance.now());
  }

  private releaseBodies(): void {
    this.budget.release(this.bodyBytes);
    this.bodyBytes = 0;
  }
}

const NOTHING_TO_STORE = Promise.resolve();
