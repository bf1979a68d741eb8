import { constants, type Http2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { tooManyTinyChunks, tinyChunksBusy, type Refusal } from '../otlp/refusal.ts';
import { stopParsing } from '../runtime/stop-parsing.ts';

/** When long bodies have been read for this long in one tick, further ones wait for the next tick. */
const SLICE_MS = 10;

/** A body is never paused before it has reached one of these. Nearly all bodies are shorter, and cost nothing here. */
const LARGE_BYTES = 64 * 1024;
const MANY_CHUNKS = 64;

/** Chunks of fewer bytes on average are tiny. Each takes some microseconds, and hundreds of bytes while its body is paused. */
const TINY_BYTES = 16;
/** A body with more tiny chunks is refused; so is a body with tiny chunks while MAX_TINY_WAITING others are paused. */
const MAX_TINY_CHUNKS = 65_536;
const MAX_TINY_WAITING = 1;
/** Most tiny chunks of HTTP/2 in one tick, over all connections: its frames can't be left unread. */
const MAX_TINY_CHUNKS_AT_ONCE = 4_096;

/** A body of HTTP/1.1, with its connection, or of HTTP/2, with its session. */
type Body = Readable & { readonly socket?: Socket; readonly session?: Http2Session };

/**
 * Shares the event loop between long bodies: they are paused, and one is resumed per tick. Otherwise Node reads up to 2 MB of each
 * connection before anything else: half a second for two hundred fast connections, and longer if each byte is a chunk.
 */
class ReadScheduler {
  /** Paused bodies in the order in which they are resumed, and whether each has tiny chunks. */
  private readonly waiting = new Map<Readable, boolean>();
  private tinyWaiting = 0;
  /** Tiny chunks of HTTP/2 in this tick. */
  private tinyChunks = 0;
  /** The body that was resumed in this tick. */
  private resumed: Readable | undefined;
  /** When the first long body of this tick was read; undefined between ticks. */
  private begunAtMs: number | undefined;

  /**
   * Must be called for each chunk of a body. Pauses the body when the time of this tick is used up.
   * @param bytes bytes of the body so far, in `chunks` chunks
   * @returns the refusal if the body is refused; then no more of it is read
   */
  onChunk(body: Body, bytes: number, chunks: number): Refusal | undefined {
    if (bytes < LARGE_BYTES && chunks < MANY_CHUNKS) return undefined;
    const refusal = this.schedule(body, bytes, chunks);
    if (refusal === undefined) return undefined;
    if (body.socket) stopParsing(body.socket);
    else body.session?.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    return refusal;
  }

  private schedule(body: Body, bytes: number, chunks: number): Refusal | undefined {
    const isTiny = bytes < chunks * TINY_BYTES;
    this.begunAtMs ??= this.begin();
    if (isTiny && (chunks > MAX_TINY_CHUNKS || (body.session && ++this.tinyChunks > MAX_TINY_CHUNKS_AT_ONCE))) return tooManyTinyChunks();
    const isOver = performance.now() - this.begunAtMs > SLICE_MS;
    // A body that arrives while others are paused waits behind them.
    const isLater = !isTiny && this.waiting.size > 0 && body !== this.resumed;
    if ((isOver || isLater) && !this.waiting.has(body)) {
      if (isTiny && this.tinyWaiting === MAX_TINY_WAITING) return tinyChunksBusy();
      this.pause(body, isTiny);
    }
    return undefined;
  }

  private begin(): number {
    setImmediate(() => this.next());
    return performance.now();
  }

  private pause(body: Readable, isTiny: boolean): void {
    body.pause();
    this.waiting.set(body, isTiny);
    this.tinyWaiting += Number(isTiny);
  }

  /** Resumes one body only, because the amount that is then read is not known before. */
  private next(): void {
    this.begunAtMs = undefined;
    this.resumed = undefined;
    this.tinyChunks = 0;
    for (const [body, isTiny] of this.waiting) {
      this.waiting.delete(body);
      this.tinyWaiting -= Number(isTiny);
      if (body.destroyed) continue;
      this.begunAtMs = this.begin();
      this.resumed = body;
      body.resume();
      return;
    }
  }
}

/** The only instance in this thread. */
export const readScheduler = new ReadScheduler();
