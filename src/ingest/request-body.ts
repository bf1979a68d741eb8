import type { IncomingMessage } from 'node:http';
import { createGunzip, createInflate, createInflateRaw, createZstdDecompress, type Gunzip, type Inflate, type InflateRaw, type ZstdDecompress } from 'node:zlib';
import type { MemoryBudget } from '../batch/memory-budget.ts';
import { bodyAborted, bodyTooSlow, malformed, memoryFull, tooLarge, type Refusal } from '../otlp/refusal.ts';
import { letSend } from '../server/port-server.ts';
import type { Compression } from './content.ts';

/** A request body, inflated, in the pieces it came in. Its bytes are reserved in the memory budget until `release`. */
export interface Body {
  readonly pieces: readonly Uint8Array[];
  readonly length: number;
}

export interface BodyLimits {
  readonly maxBytes: number;
  readonly timeoutMs: number;
  readonly budget: MemoryBudget;
}

/** In the low bits of the first byte of every zlib stream: deflate. */
const ZLIB_METHOD = 8;
/** A piece of an inflated body. */
const INFLATED_BYTES = 64 * 1024;

/**
 * Reads a request's body, whose sender may be waiting for leave to send it, without ever holding more of it than the limits allow.
 * @returns the body, whose `length` bytes the caller must release from the budget
 * @throws Refusal 400, 408, 413 or 503
 */
export async function readBody(request: IncomingMessage, compression: Compression, limits: BodyLimits): Promise<Body> {
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > limits.maxBytes) throw tooLarge(limits.maxBytes / 1024 ** 2);
  letSend(request);
  const body = await collect(request, limits);
  if (compression === 'identity') return body;
  try {
    return await inflate(body, compression, limits);
  } finally {
    limits.budget.release(body.length);
  }
}

function collect(request: IncomingMessage, { maxBytes, timeoutMs, budget }: BodyLimits): Promise<Body> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let length = 0;

    const timer = setTimeout(() => fail(bodyTooSlow(timeoutMs)), timeoutMs);
    request.on('data', onData);
    request.on('end', onEnd);
    request.on('close', onClose);
    request.on('error', onClose);
    // The sender left while its token was looked up: 'close' has been, and does not come again.
    if (request.destroyed) return onClose();

    function onData(piece: Buffer): void {
      if (length + piece.length > maxBytes) return fail(tooLarge(maxBytes / 1024 ** 2));
      if (!budget.reserve(piece.length)) return fail(memoryFull());
      length += piece.length;
      pieces.push(piece);
    }
    function onEnd(): void {
      stop();
      resolve({ pieces, length });
    }
    function onClose(): void {
      fail(bodyAborted());
    }
    function fail(refusal: Refusal): void {
      stop();
      budget.release(length);
      pieces.length = 0;
      reject(refusal);
    }
    function stop(): void {
      clearTimeout(timer);
      request.off('data', onData);
      request.off('end', onEnd);
      request.off('close', onClose);
      request.off('error', onClose);
    }
  });
}

/** Piece by piece, as a few bytes can inflate to more than there is room for. */
function inflate(body: Body, compression: Exclude<Compression, 'identity'>, { maxBytes, budget }: BodyLimits): Promise<Body> {
  return new Promise((resolve, reject) => {
    const inflater = inflaterFor(compression, body.pieces[0]?.[0]);
    const pieces: Buffer[] = [];
    let length = 0;

    inflater.on('data', (piece: Buffer) => {
      if (length + piece.length > maxBytes) return fail(tooLarge(maxBytes / 1024 ** 2));
      if (!budget.reserve(piece.length)) return fail(memoryFull());
      length += piece.length;
      pieces.push(piece);
    });
    inflater.on('end', () => {
      if (inflater.bytesWritten === body.length) resolve({ pieces, length });
      else fail(malformed(`there is something after the end of the ${compression}`));
    });
    inflater.on('error', (error) => fail(malformed(`it is not valid ${compression} (${error.message})`)));
    for (const piece of body.pieces) inflater.write(piece);
    inflater.end();

    function fail(refusal: Refusal): void {
      inflater.removeAllListeners('data');
      inflater.destroy();
      budget.release(length);
      length = 0;
      pieces.length = 0;
      reject(refusal);
    }
  });
}

function inflaterFor(compression: Exclude<Compression, 'identity'>, firstByte = 0): Gunzip | Inflate | InflateRaw | ZstdDecompress {
  const options = { chunkSize: INFLATED_BYTES };
  if (compression === 'gzip') return createGunzip(options);
  if (compression === 'zstd') return createZstdDecompress(options);
  // Some senders leave out the zlib header that `deflate` stands for (RFC 9110, 8.4.1.2). No raw stream begins as it does.
  return (firstByte & 0x0f) === ZLIB_METHOD ? createInflate(options) : createInflateRaw(options);
}
