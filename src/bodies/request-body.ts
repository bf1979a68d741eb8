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
import { sendContinue } from '../http/port-server.ts';
import { readScheduler } from '../http/read-scheduler.ts';
import type { PlainRequest } from '../http/plain-request.ts';
import type { Compression } from '../otlp/content.ts';
import { bodyAborted, bodyTooSlow, malformed, tooLarge, type Refusal } from '../otlp/refusal.ts';
import { freeBuffer } from '../runtime/free-buffer.ts';
import { inflaterMemory } from './inflater-memory.ts';
import { coalesceSmallChunks, COALESCE_EVERY } from './coalesce.ts';
import type { Reservation } from './reservation.ts';

/** Reserves the memory of a body. */
export type BodyMemory = Pick<Reservation, 'reserve' | 'releaseBody'>;

/** An inflated request body, in chunks. A function that takes over a body also takes over its reservation. */
export class Body<Memory extends BodyMemory = Reservation> {
  /** May be emptied while the body is converted. */
  readonly chunks: Uint8Array[];
  /** Bytes. */
  readonly length: number;
  readonly memory: Memory;
  private readonly owner: BytesOwner | undefined;

  /** @param owner the owner of the chunks' memory; without one, each chunk has memory of its own */
  constructor(chunks: Uint8Array[], length: number, memory: Memory, owner?: BytesOwner) {
    this.chunks = chunks;
    this.length = length;
    this.memory = memory;
    this.owner = owner;
  }

  /** Frees the memory of the bytes, which must not be read afterwards. Its reservation lasts until `memory.releaseBody`. */
  free(): void {
    if (this.owner === undefined) this.chunks.forEach(freeBuffer);
    else this.owner.free();
  }

  /** Leaves the memory to the garbage collector, as other code may still read it. */
  abandon(): void {
    this.owner?.abandon();
  }
}

/** The owner of a body's memory: a plain request. */
type BytesOwner = Pick<PlainRequest, 'free' | 'abandon'>;

/** The chunks of a body that is being read. The memory of each is reserved, up to a limit. */
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

  /** Adds a chunk. @returns the refusal if it can't: 413, 429 or 503 */
  append(chunk: Buffer): Refusal | undefined {
    if (this.length + chunk.length > this.maxBytes) return tooLarge(this.maxBytes / 1024 ** 2);
    const refusal = this.memory.reserve(chunk.length);
    if (refusal !== undefined) return refusal;
    this.length += chunk.length;
    this.chunks.push(chunk);
    return undefined;
  }

  /** Makes a body of all chunks. */
  toBody(): Body<Memory> {
    return new Body(this.chunks, this.length, this.memory);
  }

  /** Frees all chunks and releases their reservation. May be called again. */
  free(): void {
    this.memory.releaseBody(this.length);
    this.length = 0;
    this.chunks.forEach(freeBuffer);
    this.chunks.length = 0;
  }
}

/** The limits of a body: its size before and after inflating, and the time to read it. */
export interface BodyLimits {
  readonly maxBytes: number;
  readonly timeoutMs: number;
}

type Deflated = Exclude<Compression, 'identity'>;

/** The low four bits of the first byte of every zlib stream: the method deflate. */
const ZLIB_METHOD = 8;
/** Size of the chunks of an inflated body. */
const INFLATED_BYTES = 64 * 1024;

/**
 * Reads and inflates a request's body within the limits. Sends the 100 Continue if the sender waits for it.
 * @param memory reserves the bytes; they are released when this rejects
 * @throws Refusal 400, 408, 413, 429 or 503
 */
export function readBody(request: IncomingMessage, compression: Compression, limits: BodyLimits, memory: Reservation): Promise<Body> {
  sendContinue(request);
  const body = collect(request, limits, memory);
  return compression === 'identity' ? body : body.then((compressed) => inflated(compressed, compression, limits));
}

/**
 * The inflated body of a plain request. Not a promise if it is not compressed. Rejects with a Refusal 400, 413, 429 or 503.
 * @param memory reserves the bytes; they are released when this rejects
 */
export function plainBody(request: PlainRequest, compression: Compression, limits: BodyLimits, memory: Reservation): Body | Promise<Body> {
  const refusal = memory.reserve(request.bodyLength);
  if (refusal !== undefined) return Promise.reject(refusal);
  const body = new Body(request.chunks, request.bodyLength, memory, request);
  return compression === 'identity' ? body : inflated(body, compression, limits);
}

/**
 * Reads a stream to its end.
 * @param memory reserves the bytes; they are released when this rejects
 * @param refusalOf called with the first chunk; if it returns a refusal, reading ends
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
    // Most bodies end in the same tick, and need no timer.
    endOfTick.run(() => {
      if (!isOver) timer = setTimeout(() => fail(bodyTooSlow(timeoutMs)), timeoutMs);
    });
    request.on('data', onData);
    request.on('end', onEnd);
    request.on('close', onClose);
    // The connection was closed while the token was looked up: there is no further 'close' event.
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
      // Bytes that are already read stay in the stream until the request is answered.
      request.pause();
      // If the connection is then closed, `fail` is called again.
      parts.free();
      reject(refusal);
    }
  });
}

/**
 * Inflates a body. The compressed bytes and their reservation are released; the inflated bytes are reserved in the same `memory`.
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

/** Inflates chunk by chunk, because a few bytes can inflate to more than the limit. */
function inflate<Memory extends BodyMemory>(body: Body<Memory>, compression: Deflated, { maxBytes }: BodyLimits): Promise<Body<Memory>> {
  return new Promise((resolve, reject) => {
    const { memory } = body;
    // Reserved in addition to the inflated body: a few hundred bytes of zstd can require a window of megabytes.
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
  // Some senders omit the zlib header that `deflate` requires (RFC 9110, 8.4.1.2). No raw stream begins with such a byte.
  return ((firstByte ?? 0) & 0x0f) === ZLIB_METHOD ? createInflate(options) : createInflateRaw(options);
}
