import type { Body } from '../bodies/request-body.ts';
import type { Reservation } from '../bodies/reservation.ts';
import type { Encoding } from '../otlp/encoding.ts';
import { BlockOutcome } from '../queue/block-outcome.ts';
import type { QueuedBlock } from '../queue/block.ts';
import type { BlockTrace } from '../tracing/block-trace.ts';
import type { RequestTrace } from '../tracing/request-trace.ts';
import type { BlockEncoder } from '../transcode/block-encoder.ts';
import type { Transcoded } from '../transcode/transcoder.ts';

/** Bytes of request bodies at which a block is sealed without waiting longer: larger blocks compress no better. */
const SEAL_BYTES = 1024 * 1024;

/** Deferred bodies are transcoded when they have this many bytes together: a fraction of a millisecond's work. */
const DEFERRED_BYTES = 64 * 1024;

/** A block with fewer bytes of bodies is sealed after SHORT_WAITS intervals: the fewer spans it has, the more sealing costs per span. */
const SHORT_BYTES = 64 * 1024;
const SHORT_WAITS = 2;

/** Rows at which a block is sealed, whatever the size of the bodies: sealing more would block the event loop. */
const SEAL_ROWS = 16_384;

/** A request whose spans are parsed. */
export interface Accepted extends Transcoded {
  /** The index of its first row in the block. */
  readonly firstRow: number;
  /** Resolves when the spans may be acknowledged. Rejects with the Refusal for the sender when they can't be. */
  readonly durable: Promise<void>;
  /** The outcome of the block that holds its spans; undefined if it has no spans. */
  readonly outcome?: BlockOutcome;
}

type Push = (block: QueuedBlock) => Promise<void>;

/**
 * The block that collects small requests. It is sealed and queued `sealIntervalMs` after the block before it, or at once if that
 * was longer ago; a short one after twice that time. All requests in a block are acknowledged together.
 */
export class OpenBlock {
  private encoder: BlockEncoder;
  private readonly push: Push;
  private readonly sealIntervalMs: number;
  private durable: PromiseWithResolvers<void> | undefined;
  private outcome = new BlockOutcome();
  private timer: Disposable | undefined;
  /** Whether the timer was set for a short block. */
  private waitsLonger = false;
  private trace: BlockTrace | undefined;
  /** The reservations of its requests, and the lengths of their bodies. */
  private parts: Part[] = [];
  private bodyBytes = 0;
  /** Each adds a deferred body. */
  private deferred: (() => void)[] = [];
  private deferredBytes = 0;
  private sealedAtMs = Number.NEGATIVE_INFINITY;

  /** @param push queues a block, as `BlockQueue.push` does */
  constructor(encoder: BlockEncoder, sealIntervalMs: number, push: Push) {
    this.encoder = encoder;
    this.sealIntervalMs = sealIntervalMs;
    this.push = push;
  }

  /** Replaces the encoder if the block is empty, to free the buffers that have grown. */
  replaceEncoder(make: () => BlockEncoder): void {
    if (this.encoder.rows === 0 && this.parts.length === 0) this.encoder = make();
  }

  /**
   * Defers a body until others have come or the block is sealed. At low rates, the transcoder's code and tables are no longer in the
   * processor's caches when the next body comes; when bodies are transcoded one after the other, only the first has that cost.
   * @param add calls `add` for the body; must not throw
   */
  defer(bodyBytes: number, add: () => void): void {
    this.deferred.push(add);
    this.deferredBytes += bodyBytes;
    if (this.deferredBytes >= DEFERRED_BYTES) this.addDeferred();
    else this.sealSoon();
  }

  /**
   * Adds the spans of a request. Takes over its body, with its memory and its reservation.
   * @throws MalformedRequest; then nothing of the request is stored
   */
  add(body: Body, encoding: Encoding, targetId: string, trace?: RequestTrace): Accepted {
    const { length, memory } = body;
    const firstRow = this.encoder.rows;
    let transcoded: Transcoded;
    try {
      transcoded = this.encoder.add(body.chunks, encoding, targetId);
    } catch (error) {
      memory.releaseBody();
      throw error;
    } finally {
      body.free();
    }
    if (transcoded.accepted === 0) {
      memory.releaseBody();
      return { ...transcoded, firstRow, durable: NOTHING_TO_STORE };
    }
    if (trace !== undefined) this.trace = trace.join(this.trace);
    this.parts.push({ memory, length });
    this.bodyBytes += length;
    this.durable ??= Promise.withResolvers<void>();
    const { promise } = this.durable;
    const { outcome } = this;
    if (this.bodyBytes >= SEAL_BYTES || this.encoder.rows >= SEAL_ROWS) this.seal();
    else this.sealSoon();
    return { ...transcoded, firstRow, durable: promise, outcome };
  }

  /** Seals and queues the block now, unless it is empty. */
  seal(): void {
    this.addDeferred();
    this.timer?.[Symbol.dispose]();
    this.timer = undefined;
    const { bodyBytes, durable, outcome, parts, trace } = this;
    if (durable === undefined) return;
    this.sealedAtMs = performance.now();
    this.durable = undefined;
    this.outcome = new BlockOutcome();
    this.parts = [];
    this.bodyBytes = 0;
    this.trace = undefined;
    const sealed = this.encoder.seal();
    const block = { ...sealed, trace, outcome };
    const blockBytes = block.frame.length;
    const pushed = this.push(block);
    for (const { memory, length } of parts) memory.moveToBlock(Math.ceil(blockBytes * (length / bodyBytes)));
    pushed
      .finally(() => {
        for (const { memory } of parts) memory.releaseBlock();
      })
      .then(durable.resolve, durable.reject);
    // With ACK_MODE=received there is no listener.
    durable.promise.catch(() => {});
  }

  private sealSoon(): void {
    const isShort = this.bodyBytes + this.deferredBytes < SHORT_BYTES;
    if (this.timer !== undefined && (isShort || !this.waitsLonger)) return;
    this.timer?.[Symbol.dispose]();
    const seal = () => this.seal();
    const delayMs = this.sealedAtMs + this.sealIntervalMs * (isShort ? SHORT_WAITS : 1) - performance.now();
    // After a pause a block is sealed at once, with all requests of the same tick.
    this.timer = delayMs > 0 ? setTimeout(seal, delayMs) : setImmediate(seal);
    this.waitsLonger = isShort;
  }

  private addDeferred(): void {
    const { deferred } = this;
    if (deferred.length === 0) return;
    this.deferred = [];
    this.deferredBytes = 0;
    for (const add of deferred) add();
  }
}

interface Part {
  readonly memory: Reservation;
  readonly length: number;
}

const NOTHING_TO_STORE = Promise.resolve();
