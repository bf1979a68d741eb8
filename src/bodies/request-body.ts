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
import { nextTurn } from '../http/next-turn.ts';
import { letSend } from '../http/port-server.ts';
import { readTurns } from '../http/read-turns.ts';
import type { WholeRequest } from '../http/whole-request.ts';
import type { Compression } from '../otlp/content.ts';
import { bodyAborted, bodyTooSlow, malformed, tooLarge, type Refusal } from '../otlp/refusal.ts';
import { giveBack } from '../runtime/body-slab.ts';
import { freeBuffer } from '../runtime/free-buffer.ts';
import { inflaterMemory } from './inflater-memory.ts';
import { joinShortPieces, PIECES_JOINED } from './pieces.ts';
import type { Reservation } from './reservation.ts';

/** Where the memory that a body takes is reserved. */
export type BodyMemory = Pick<Reservation, 'reserve' | 'releaseBody'>;

/** A request body, inflated, in the pieces it came in. Whoever takes it takes over what is reserved for it, too. */
export interface Body<Memory extends BodyMemory = Reservation> {
  /** Whoever turns them into something else may empty it on the way. */
  readonly pieces: Uint8Array[];
  readonly length: number;
  readonly memory: Memory;
  /** Of what the pieces are parts, where they have no memory of their own. */
  readonly reads?: Uint8Array[];
}

export interface BodyLimits {
  readonly maxBytes: number;
  readonly timeoutMs: number;
}

/** In the low bits of the first byte of every zlib stream: deflate. */
const ZLIB_METHOD = 8;
/** A piece of an inflated body. */
const INFLATED_BYTES = 64 * 1024;

/**
 * Reads a request's body, whose sender may be waiting for leave to send it, without ever holding more of it than the limits allow.
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
export function plainBody(
  { pieces, bodyLength: length, reads }: WholeRequest,
  compression: Compression,
  limits: BodyLimits,
  memory: Reservation,
): Body | Promise<Body> {
  const refusal = memory.reserve(length);
  if (refusal !== undefined) return Promise.reject(refusal);
  const body = { pieces, length, reads, memory };
  return compression === 'identity' ? body : inflated(body, compression, limits);
}

/** Gives the memory of a body back. Its bytes are gone then. */
export function freeBody({ pieces, reads }: Pick<Body, 'pieces' | 'reads'>): void {
  pieces.forEach(freeBuffer);
  if (reads !== undefined) giveBack(reads);
}

/**
 * What comes over a stream until its end.
 * @param memory where its bytes are reserved; when it throws, they are released
 * @param refusalOf looks at the first piece: a refusal ends the reading
 * @throws Refusal 400, 408, 413, 429 or 503
 */
export function collect<Memory extends BodyMemory>(
  request: Readable,
  { maxBytes, timeoutMs }: BodyLimits,
  memory: Memory,
  refusalOf?: (first: Buffer) => Refusal | undefined,
): Promise<Body<Memory>> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let length = 0;
    let count = 0;
    let joined = 0;

    let isOver = false;
    let timer: NodeJS.Timeout | undefined;
    // Most bodies are read to their end in the turn that they begin in, and need no clock.
    nextTurn.run(() => {
      if (!isOver) timer = setTimeout(() => fail(bodyTooSlow(timeoutMs)), timeoutMs);
    });
    request.on('data', onData);
    request.on('end', onEnd);
    request.on('close', onClose);
    // The sender left while its token was looked up: 'close' has been, and does not come again.
    if (request.destroyed) return onClose();

    function onData(piece: Buffer): void {
      if (length + piece.length > maxBytes) return fail(tooLarge(maxBytes / 1024 ** 2));
      const refusal = (length === 0 ? refusalOf?.(piece) : undefined) ?? memory.reserve(piece.length);
      if (refusal !== undefined) return fail(refusal);
      length += piece.length;
      pieces.push(piece);
      const crumbs = readTurns.brought(request, length, ++count);
      if (crumbs !== undefined) return fail(crumbs);
      if (pieces.length - joined === PIECES_JOINED) joined = joinShortPieces(pieces, joined);
    }
    function onEnd(): void {
      isOver = true;
      clearTimeout(timer);
      resolve({ pieces, length, memory });
    }
    function onClose(): void {
      if (!isOver) fail(bodyAborted());
    }
    function fail(refusal: Refusal): void {
      isOver = true;
      clearTimeout(timer);
      request.off('data', onData).off('end', onEnd).off('close', onClose);
      // What else has been read already goes nowhere until the request is answered.
      request.pause();
      memory.releaseBody(length);
      // Where the connection is ended under a body, it fails again.
      length = 0;
      pieces.forEach(freeBuffer);
      pieces.length = 0;
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
  compression: Exclude<Compression, 'identity'>,
  limits: BodyLimits,
): Promise<Body<Memory>> {
  try {
    const inflatedBody = await inflate(body, compression, limits);
    freeBody(body);
    return inflatedBody;
  } catch (error) {
    // zlib may be reading the next piece already: left to the garbage collector.
    if (body.pieces.length > 1) body.reads?.splice(0);
    throw error;
  } finally {
    body.memory.releaseBody(body.length);
  }
}

/** Piece by piece, as a few bytes can inflate to more than there is room for. */
function inflate<Memory extends BodyMemory>(
  body: Body<Memory>,
  compression: Exclude<Compression, 'identity'>,
  { maxBytes }: BodyLimits,
): Promise<Body<Memory>> {
  return new Promise((resolve, reject) => {
    const { memory } = body;
    // Counted apart from what it inflates to: a few hundred bytes of zstd can ask for megabytes.
    const { bytes: ownBytes, windowLog } = inflaterMemory(compression, body.pieces);
    const noRoom = memory.reserve(ownBytes);
    if (noRoom !== undefined) return reject(noRoom);
    const inflater = inflaterFor(compression, body.pieces[0]?.[0], windowLog);
    const pieces: Buffer[] = [];
    let length = 0;
    let isOver = false;

    inflater.on('data', (piece: Buffer) => {
      if (length + piece.length > maxBytes) return fail(tooLarge(maxBytes / 1024 ** 2));
      const refusal = memory.reserve(piece.length);
      if (refusal !== undefined) return fail(refusal);
      length += piece.length;
      pieces.push(piece);
    });
    inflater.on('end', () => {
      if (inflater.bytesWritten !== body.length) return fail(malformed(`there is something after the end of the ${compression}`));
      isOver = true;
      memory.releaseBody(ownBytes);
      resolve({ pieces, length, memory });
    });
    inflater.on('error', (error) => fail(malformed(`it is not valid ${compression} (${error.message})`)));
    for (const piece of body.pieces) inflater.write(piece);
    inflater.end();

    function fail(refusal: Refusal): void {
      inflater.removeAllListeners('data');
      inflater.destroy();
      if (!isOver) memory.releaseBody(ownBytes + length);
      isOver = true;
      pieces.forEach(freeBuffer);
      pieces.length = 0;
      reject(refusal);
    }
  });
}

function inflaterFor(
  compression: Exclude<Compression, 'identity'>,
  firstByte: number | undefined,
  windowLog: number,
): Gunzip | Inflate | InflateRaw | ZstdDecompress {
  const options = { chunkSize: INFLATED_BYTES };
  if (compression === 'gzip') return createGunzip(options);
  if (compression === 'zstd') return createZstdDecompress({ ...options, params: { [constants.ZSTD_d_windowLogMax]: windowLog } });
  // Some senders leave out the zlib header that `deflate` stands for (RFC 9110, 8.4.1.2). No raw stream begins as it does.
  return ((firstByte ?? 0) & 0x0f) === ZLIB_METHOD ? createInflate(options) : createInflateRaw(options);
}
