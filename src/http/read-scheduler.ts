import { constants, type Http2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { tooManyTinyChunks, tinyChunksBusy, type Refusal } from '../otlp/refusal.ts';
import { stopParsing } from '../runtime/stop-parsing.ts';

/** Once long bodies have been read for this long in one tick, further ones wait for the next. */
const SLICE_MS = 10;

/** A body of which less than both of these has come is not paused: nearly all bodies are short, and cost nothing here. */
const LARGE_BYTES = 64 * 1024;
const MANY_CHUNKS = 64;

/** Chunks of fewer bytes than this, on average, are tiny. Each takes some microseconds, and hundreds of bytes while its body is paused. */
const TINY_BYTES = 16;
/** More of them in one body are refused; and so is another such body while this many are paused. */
const MAX_TINY_CHUNKS = 65_536;
const MAX_TINY_WAITING = 1;
/** Frames of HTTP/2 can't be left unread: of these, so many tiny chunks may come in one tick, over all connections. */
const MAX_TINY_CHUNKS_AT_ONCE = 4_096;

/** Of HTTP/1.1, with its connection, or of HTTP/2, with its session. */
type Body = Readable & { readonly socket?: Socket; readonly session?: Http2Session };

/**
 * Shares the event loop between long bodies: they are paused, and resumed one a tick. Node would read up to 2 MB of each connection
 * before anything else: half a second, if two hundred send as fast as they can, and longer when each byte is a chunk.
 */
class ReadScheduler {
  /** Bodies that are paused, in the order in which they go on; and whether each comes in tiny chunks. */
  private readonly waiting = new Map<Readable, boolean>();
  private tinyWaiting = 0;
  /** Those of this tick, over HTTP/2. */
  private tinyChunks = 0;
  /** The body that was resumed in this tick. */
  private resumed: Readable | undefined;
  /** When the first long body of this tick was read; undefined between ticks. */
  private begunAtMs: number | undefined;

  /**
   * To be called for each chunk of a body. Pauses the body when this tick has read long enough.
   * @param bytes that have come of it so far, in so many `chunks`
   * @returns why the body is refused, if so: nothing more comes of it then
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
    // A body that comes while others are paused goes behind them.
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

  /** Resumes one body: how much of it comes at once is not known before. */
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
