import type { Body } from '../bodies/request-body.ts';
import type { Reservation } from '../bodies/reservation.ts';
import type { Encoding } from '../otlp/encoding.ts';
import { BlockFate } from '../queue/block-fate.ts';
import type { QueuedBlock } from '../queue/block.ts';
import type { BlockTrace } from '../tracing/block-trace.ts';
import type { RequestTrace } from '../tracing/request-trace.ts';
import type { BlockEncoder } from '../transcode/block-encoder.ts';
import type { Transcoded } from '../transcode/transcoder.ts';

/** Bytes of request bodies at which a block is sealed without waiting longer: larger blocks compress no better. */
const SEAL_BYTES = 1024 * 1024;

/** Bodies that are deferred until so many bytes of them have come are transcoded: a fraction of a millisecond's work. */
const DEFERRED_BYTES = 64 * 1024;

/** A block of less is worth a longer wait: sealing costs the more by the span, the fewer there are. */
const SHORT_BYTES = 64 * 1024;
const SHORT_WAITS = 2;

/** Rows at which it is sealed, however short the bodies: more would hold up the event loop. */
const SEAL_ROWS = 16_384;

/** A request whose spans are parsed. `durable` resolves when they may be acknowledged, and rejects with the Refusal if they can't be. */
export interface Accepted extends Transcoded {
  /** The number of the first of its rows in their block. */
  readonly firstRow: number;
  readonly durable: Promise<void>;
  /** That of the block that its spans are in; undefined where there are none. */
  readonly fate?: BlockFate;
}

type Push = (block: QueuedBlock) => Promise<void>;

/**
 * The block that small requests are gathered in. It is sealed, and queued, `sealIntervalMs` after the one
 * before it, or at once if that is longer ago; a short one after twice that time.
 * All requests in it are acknowledged together.
 */
export class OpenBlock {
  private encoder: BlockEncoder;
  private readonly push: Push;
  private readonly sealIntervalMs: number;
  private durable: PromiseWithResolvers<void> | undefined;
  private fate = new BlockFate();
  private timer: Disposable | undefined;
  /** Whether the timer was set for a short block. */
  private waitsLonger = false;
  private trace: BlockTrace | undefined;
  /** What the requests in it have reserved, and the lengths of their bodies. */
  private parts: Part[] = [];
  private bodyBytes = 0;
  /** What is left to do for the bodies that are deferred. */
  private deferred: (() => void)[] = [];
  private deferredBytes = 0;
  private sealedAtMs = Number.NEGATIVE_INFINITY;

  /** @param push queues a block, as `BlockQueue.push` does */
  constructor(encoder: BlockEncoder, sealIntervalMs: number, push: Push) {
    this.encoder = encoder;
    this.sealIntervalMs = sealIntervalMs;
    this.push = push;
  }

  /** Uses another encoder from now on, if nothing is in this one: its buffers are kept as large as they have been. */
  replaceEncoder(make: () => BlockEncoder): void {
    if (this.encoder.rows === 0 && this.parts.length === 0) this.encoder = make();
  }

  /**
   * Leaves a body for later, when others have come or the block is sealed. Where little comes, each would find the
   * transcoder's code and tables out of the processor's caches; one after the other, only the first does.
   * @param add calls `add` for it. Must not throw
   */
  defer(bodyBytes: number, add: () => void): void {
    this.deferred.push(add);
    this.deferredBytes += bodyBytes;
    if (this.deferredBytes >= DEFERRED_BYTES) this.addDeferred();
    else this.sealSoon();
  }

  /**
   * Adds the spans of a request, and takes over its body: the memory, and what is reserved for it.
   * @throws MalformedRequest; nothing of the request is stored then
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
    const { fate } = this;
    if (this.bodyBytes >= SEAL_BYTES || this.encoder.rows >= SEAL_ROWS) this.seal();
    else this.sealSoon();
    return { ...transcoded, firstRow, durable: promise, fate };
  }

  /** Queues the block now, if there is anything in it. */
  seal(): void {
    this.addDeferred();
    this.timer?.[Symbol.dispose]();
    this.timer = undefined;
    const { bodyBytes, durable, fate, parts, trace } = this;
    if (durable === undefined) return;
    this.sealedAtMs = performance.now();
    this.durable = undefined;
    this.fate = new BlockFate();
    this.parts = [];
    this.bodyBytes = 0;
    this.trace = undefined;
    const sealed = this.encoder.seal();
    const block = { ...sealed, trace, fate };
    for (const { memory, length } of parts) memory.moveToBlock(Math.ceil(block.frame.length * (length / bodyBytes)));
    this.push(block)
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
    // After a pause a block is sealed at once, with what came in the same tick.
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
