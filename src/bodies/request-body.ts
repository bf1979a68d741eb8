import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import {
  constants,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
  type Gunzip,
  type Inflate,
  type InflateRaw,
  type ZstdDecompress,
} from 'node:zlib';
import { endOfTick } from '../http/end-of-tick.ts';
import { letSend } from '../http/port-server.ts';
import { readScheduler } from '../http/read-scheduler.ts';
import type { PlainRequest } from '../http/plain-request.ts';
import type { Compression } from '../otlp/content.ts';
import { bodyAborted, bodyTooSlow, malformed, tooLarge, type Refusal } from '../otlp/refusal.ts';
import { freeBuffer } from '../runtime/free-buffer.ts';
import { inflaterMemory } from './inflater-memory.ts';
import { coalesceSmallChunks, COALESCE_EVERY } from './coalesce.ts';
import type { Reservation } from './reservation.ts';

/** Where the memory that a body takes is reserved. */
export type BodyMemory = Pick<Reservation, 'reserve' | 'releaseBody'>;

/** A request body, inflated, in the chunks it came in. A function that takes one over also takes over what is reserved for it. */
export class Body<Memory extends BodyMemory = Reservation> {
  /** May be emptied while they are turned into something else. */
  readonly chunks: Uint8Array[];
  /** Bytes. */
  readonly length: number;
  readonly memory: Memory;
  private readonly owner: BytesOwner | undefined;

  /** @param owner of the memory of the chunks, if each does not have its own */
  constructor(chunks: Uint8Array[], length: number, memory: Memory, owner?: BytesOwner) {
    this.chunks = chunks;
    this.length = length;
    this.memory = memory;
    this.owner = owner;
  }

  /** Gives the memory of the bytes back: they are gone. What is reserved for them stays so until `memory.releaseBody`. */
  free(): void {
    if (this.owner === undefined) this.chunks.forEach(freeBuffer);
    else this.owner.free();
  }

  /** Leaves the memory to the garbage collector, as other code may still read it. */
  abandon(): void {
    this.owner?.abandon();
  }
}

/** Owns the memory of a body: a plain request. */
type BytesOwner = Pick<PlainRequest, 'free' | 'abandon'>;

/** Chunks of a body as they come: each is reserved in memory, up to a limit. */
class BodyChunks<Memory extends BodyMemory> {
  readonly chunks: Buffer[] = [];
  /** Bytes. */
  length = 0;
  private readonly memory: Memory;
  private readonly maxBytes: number;

  constructor(memory: Memory, maxBytes: number) {
    this.memory = memory;
    this.maxBytes = maxBytes;
  }

  /** Takes a chunk. @returns why it can't, if so: 413, 429 or 503 */
  append(chunk: Buffer): Refusal | undefined {
    if (this.length + chunk.length > this.maxBytes) return tooLarge(this.maxBytes / 1024 ** 2);
    const refusal = this.memory.reserve(chunk.length);
    if (refusal !== undefined) return refusal;
    this.length += chunk.length;
    this.chunks.push(chunk);
    return undefined;
  }

  /** All of them, as a body. */
  toBody(): Body<Memory> {
    return new Body(this.chunks, this.length, this.memory);
  }

  /** Releases and frees all of them. May be called again. */
  free(): void {
    this.memory.releaseBody(this.length);
    this.length = 0;
    this.chunks.forEach(freeBuffer);
    this.chunks.length = 0;
  }
}

export interface BodyLimits {
  readonly maxBytes: number;
  readonly timeoutMs: number;
}

type Deflated = Exclude<Compression, 'identity'>;

/** In the low bits of the first byte of every zlib stream: deflate. */
const ZLIB_METHOD = 8;
/** A chunk of an inflated body. */
const INFLATED_BYTES = 64 * 1024;

/**
 * Reads a request's body, and sends the 100 Continue if the sender waits for it. Holds no more of it than the limits allow.
 * @param memory where its bytes are reserved; when it throws, they are released
 * @throws Refusal 400, 408, 413, 429 or 503
 */
export function readBody(request: IncomingMessage, compression: Compression, limits: BodyLimits, memory: Reservation): Promise<Body> {
  letSend(request);
  const body = collect(request, limits, memory);
  return compression === 'identity' ? body : body.then((compressed) => inflated(compressed, compression, limits));
}

/**
 * The body of a plain request. No promise when there is nothing to inflate.
 * @param memory where its bytes are reserved; when it rejects, they are released
 * @throws Refusal 400, 413, 429 or 503, as a promise that is rejected
 */
export function plainBody(request: PlainRequest, compression: Compression, limits: BodyLimits, memory: Reservation): Body | Promise<Body> {
  const refusal = memory.reserve(request.bodyLength);
  if (refusal !== undefined) return Promise.reject(refusal);
  const body = new Body(request.chunks, request.bodyLength, memory, request);
  return compression === 'identity' ? body : inflated(body, compression, limits);
}

/**
 * Reads a stream to its end.
 * @param memory where its bytes are reserved; when it throws, they are released
 * @param refusalOf looks at the first chunk; if it returns a refusal, reading ends
 * @throws Refusal 400, 408, 413, 429 or 503
 */
export function collect<Memory extends BodyMemory>(
  request: Readable,
  { maxBytes, timeoutMs }: BodyLimits,
  memory: Memory,
  refusalOf?: (first: Buffer) => Refusal | undefined,
): Promise<Body<Memory>> {
  return new Promise((resolve, reject) => {
    const parts = new BodyChunks(memory, maxBytes);
    let count = 0;
    let coalesced = 0;
    let isOver = false;
    let timer: NodeJS.Timeout | undefined;
    // Most bodies end in the tick that they begin in, and need no timer.
    endOfTick.run(() => {
      if (!isOver) timer = setTimeout(() => fail(bodyTooSlow(timeoutMs)), timeoutMs);
    });
    request.on('data', onData);
    request.on('end', onEnd);
    request.on('close', onClose);
    // The connection was closed while the token was looked up: 'close' does not come again.
    if (request.destroyed) return onClose();

    function onData(chunk: Buffer): void {
      const ofFirst = parts.length === 0 ? refusalOf?.(chunk) : undefined;
      const refusal = ofFirst ?? parts.append(chunk) ?? readScheduler.onChunk(request, parts.length, ++count);
      if (refusal !== undefined) return fail(refusal);
      if (parts.chunks.length - coalesced === COALESCE_EVERY) coalesced = coalesceSmallChunks(parts.chunks, coalesced);
    }
    function onEnd(): void {
      isOver = true;
      clearTimeout(timer);
      resolve(parts.toBody());
    }
    function onClose(): void {
      if (!isOver) fail(bodyAborted());
    }
    function fail(refusal: Refusal): void {
      isOver = true;
      clearTimeout(timer);
      request.off('data', onData).off('end', onEnd).off('close', onClose);
      // Bytes that have been read already stay in the stream until the request is answered.
      request.pause();
      // A body whose connection is closed here fails a second time.
      parts.free();
      reject(refusal);
    }
  });
}

/**
 * The body without its compression. What `body` has reserved is released.
 * @throws Refusal 400, 413, 429 or 503
 */
export async function inflated<Memory extends BodyMemory>(
  body: Body<Memory>,
  compression: Deflated,
  limits: BodyLimits,
): Promise<Body<Memory>> {
  try {
    const inflatedBody = await inflate(body, compression, limits);
    body.free();
    return inflatedBody;
  } catch (error) {
    // zlib may be reading the next chunk.
    if (body.chunks.length > 1) body.abandon();
    throw error;
  } finally {
    body.memory.releaseBody(body.length);
  }
}

/** Inflates chunk by chunk, as a few bytes can inflate to more than there is room for. */
function inflate<Memory extends BodyMemory>(body: Body<Memory>, compression: Deflated, { maxBytes }: BodyLimits): Promise<Body<Memory>> {
  return new Promise((resolve, reject) => {
    const { memory } = body;
    // Reserved apart from what the body inflates to: a few hundred bytes of zstd can ask for megabytes.
    const { bytes: ownBytes, windowLog } = inflaterMemory(compression, body.chunks);
    const noRoom = memory.reserve(ownBytes);
    if (noRoom !== undefined) return reject(noRoom);
    const inflater = inflaterFor(compression, body.chunks[0]?.[0], windowLog);
    const parts = new BodyChunks(memory, maxBytes);
    let isOver = false;

    inflater.on('data', (chunk: Buffer) => {
      const refusal = parts.append(chunk);
      if (refusal !== undefined) fail(refusal);
    });
    inflater.on('end', () => {
      if (inflater.bytesWritten !== body.length) return fail(malformed(`there are bytes after the end of the ${compression}`));
      isOver = true;
      memory.releaseBody(ownBytes);
      resolve(parts.toBody());
    });
    inflater.on('error', (error) => fail(malformed(`it is not valid ${compression} (${error.message})`)));
    for (const chunk of body.chunks) inflater.write(chunk);
    inflater.end();

    function fail(refusal: Refusal): void {
      inflater.removeAllListeners('data');
      inflater.destroy();
      if (!isOver) {
        memory.releaseBody(ownBytes);
        parts.free();
      }
      isOver = true;
      reject(refusal);
    }
  });
}

type Inflater = Gunzip | Inflate | InflateRaw | ZstdDecompress;

function inflaterFor(compression: Deflated, firstByte: number | undefined, windowLog: number): Inflater {
  const options = { chunkSize: INFLATED_BYTES };
  if (compression === 'gzip') return createGunzip(options);
  if (compression === 'zstd') return createZstdDecompress({ ...options, params: { [constants.ZSTD_d_windowLogMax]: windowLog } });
  // Some senders leave out the zlib header that `deflate` stands for (RFC 9110, 8.4.1.2). No raw stream begins as it does.
  return ((firstByte ?? 0) & 0x0f) === ZLIB_METHOD ? createInflate(options) : createInflateRaw(options);
}
