import type { IncomingMessage } from 'node:http';
import { promisify } from 'node:util';
import { gunzip, inflate, zstdDecompress } from 'node:zlib';
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

const INFLATE = {
  gzip: promisify(gunzip),
  deflate: promisify(inflate),
  zstd: promisify(zstdDecompress),
} as const;

/**
 * Reads a request's body, without ever holding more of it than the limits allow.
 * @returns the body, whose `length` bytes the caller must release from the budget
 * @throws Refusal 400, 408, 413 or 503
 */
export async function readBody(request: IncomingMessage, compression: Compression, limits: BodyLimits): Promise<Body> {
  const { maxBytes, budget } = limits;
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > maxBytes) throw tooLarge(maxBytes / 1024 ** 2);
  const body = await collect(request, limits);
  if (compression === 'identity') return body;
  try {
    const inflated = await inflateBody(body, compression, maxBytes);
    if (!budget.reserve(inflated.length)) throw memoryFull();
    return { pieces: [inflated], length: inflated.length };
  } finally {
    budget.release(body.length);
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

async function inflateBody({ pieces, length }: Body, compression: Exclude<Compression, 'identity'>, maxBytes: number): Promise<Buffer> {
  const compressed = pieces.length === 1 ? pieces[0] : Buffer.concat(pieces, length);
  try {
    return await INFLATE[compression](compressed, { maxOutputLength: maxBytes });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(maxBytes / 1024 ** 2);
    throw malformed(`it is not valid ${compression} (${(error as Error).message})`);
  }
}
