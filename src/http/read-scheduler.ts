import { constants, type Http2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { tooManyTinyChunks, tinyChunksBusy, type Refusal } from '../otlp/refusal.ts';
import { stopParsing } from '../runtime/stop-parsing.ts';

/** Reading that has taken this long lets the event loop look at everything else before it goes on. */
const SLICE_MS = 10;

/** A body that has brought less than both of these is read on: nearly every one is short, and costs nothing here. */
const LARGE_BYTES = 64 * 1024;
const MANY_CHUNKS = 64;

/** Chunks of fewer bytes than this, on average, are tiny. Each takes some microseconds, and hundreds of bytes while its body is paused. */
const TINY_BYTES = 16;
/** No sender has as many in one body, or more than one such body that waits for its turn. */
const MAX_TINY_CHUNKS = 65_536;
const MAX_TINY_WAITING = 1;
/** HTTP/2 has no way to leave frames unread: there, so many crumbs are read in one tick, over all connections. */
const MAX_TINY_CHUNKS_AT_ONCE = 4_096;

/** Of a connection that carries one body at a time, or of one that carries many. */
type Body = Readable & { readonly socket?: Socket; readonly session?: Http2Session };

/**
 * Long bodies take turns at the event loop. Left to itself, it reads up to 2 MB of each connection before it looks at
 * anything else: of two hundred that send as fast as they can, for half a second; and longer when each byte is a chunk.
 */
class ReadScheduler {
  /** Paused, the one whose turn is next first; and whether it comes in tiny chunks. */
  private readonly waiting = new Map<Readable, boolean>();
  private tinyWaiting = 0;
  /** Of this tick, over HTTP/2. */
  private tinyChunks = 0;
  /** The one whose turn it is, if it has waited. */
  private resumed: Readable | undefined;
  /** When the first long body of this tick was read; undefined between ticks. */
  private begunAtMs: number | undefined;

  /**
   * To be called for each chunk of a body: pauses it when this turn is over.
   * @param bytes that have come of it so far, in so many `chunks`
   * @returns why it must not go on, if so: then nothing more comes of it
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
    // Whoever comes while others wait goes behind them.
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

  /** The turn of one: how much it brings at once is not known before. */
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

/** Of this thread's event loop. */
export const readScheduler = new ReadScheduler();
