import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import type { MemoryBudget } from '../batch/memory-budget.ts';
import { bodyAborted, bodyTooSlow, malformed, memoryFull, tooLarge, type Refusal } from '../otlp/refusal.ts';
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

const INFLATERS = { gzip: createGunzip, deflate: createInflate, zstd: createZstdDecompress } as const;
/** A piece of an inflated body. */
const INFLATED_BYTES = 64 * 1024;

/**
 * Reads a request's body, without ever holding more of it than the limits allow.
 * @returns the body, whose `length` bytes the caller must release from the budget
 * @throws Refusal 400, 408, 413 or 503
 */
export async function readBody(request: IncomingMessage, compression: Compression, limits: BodyLimits): Promise<Body> {
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > limits.maxBytes) throw tooLarge(limits.maxBytes / 1024 ** 2);
  const body = await collect(request, limits);
  return compression === 'identity' ? body : inflated(body, compression, limits);
}

/**
 * What comes over a stream until its end.
 * @param refusalOf looks at the first piece: a refusal ends the reading
 * @returns the bytes, which the caller must release from the budget
 * @throws Refusal 400, 408, 413 or 503
 */
export function collect(request: Readable, { maxBytes, timeoutMs, budget }: BodyLimits, refusalOf?: (first: Buffer) => Refusal | undefined): Promise<Body> {
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
      const refusal = length === 0 ? refusalOf?.(piece) : undefined;
      if (refusal !== undefined) return fail(refusal);
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
      // What still comes is read and dropped, so that the sender gets to see the answer.
      request.resume();
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

/**
 * The body without its compression. What `body` has reserved in the budget is released.
 * @throws Refusal 400, 413 or 503
 */
export async function inflated(body: Body, compression: Exclude<Compression, 'identity'>, limits: BodyLimits): Promise<Body> {
  try {
    return await inflate(body, compression, limits);
  } finally {
    limits.budget.release(body.length);
  }
}

/** Piece by piece, as a few bytes can inflate to more than there is room for. */
function inflate(body: Body, compression: Exclude<Compression, 'identity'>, { maxBytes, budget }: BodyLimits): Promise<Body> {
  return new Promise((resolve, reject) => {
    const inflater = INFLATERS[compression]({ chunkSize: INFLATED_BYTES });
    const pieces: Buffer[] = [];
    let length = 0;

    inflater.on('data', (piece: Buffer) => {
      if (length + piece.length > maxBytes) return fail(tooLarge(maxBytes / 1024 ** 2));
      if (!budget.reserve(piece.length)) return fail(memoryFull());
      length += piece.length;
      pieces.push(piece);
    });
    inflater.on('end', () => resolve({ pieces, length }));
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
