import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { Body, collect, inflated, type BodyLimits, type BodyMemory } from '../bodies/request-body.ts';
import type { Compression } from '../otlp/content.ts';
import { malformed, tooLarge, type Refusal } from '../otlp/refusal.ts';

/*
 * A message of gRPC ("Length-Prefixed-Message")
 *
 *   0            1                    5
 *   ├────────────┼────────────────────┼─────────┐
 *   │ compressed │ length, big-endian │ message │
 *   └────────────┴────────────────────┴─────────┘
 */
const PREFIX_BYTES = 5;
/** Senders send the prefix together with the headers. */
const PREFIX_WAIT_MS = 500;

/**
 * Reads the one message of a call, inflated. The prefix counts towards the size limit.
 * @param memory reserves the bytes; they are released when this rejects
 * @throws Refusal 400, 408, 413, 429 or 503
 */
export async function readMessage<Memory extends BodyMemory>(
  stream: Readable,
  compression: Compression,
  limits: BodyLimits,
  memory: Memory,
): Promise<Body<Memory>> {
  // It ended while its token was looked up or other calls started: there is no further 'end' event.
  if (stream.readableEnded) throw malformed(problemOf(0, Buffer.alloc(0), compression)!);
  const body = await collect(stream, limits, memory, (first) => tooLong(first, limits.maxBytes));
  const prefix = Buffer.concat(body.chunks, PREFIX_BYTES);
  const problem = problemOf(body.length, prefix, compression);
  memory.releaseBody(problem === undefined ? PREFIX_BYTES : body.length);
  if (problem !== undefined) throw malformed(problem);
  const message = withoutPrefix(body);
  return prefix[0] === 0 || compression === 'identity' ? message : inflated(message, compression, limits);
}

/** Reads only the prefix of a message. @returns the length of prefix and message; 0 if there is no prefix within half a second */
export async function declaredLength(stream: Readable): Promise<number> {
  if (stream.readableEnded || stream.destroyed) return 0;
  await once(stream, 'readable', { signal: AbortSignal.timeout(PREFIX_WAIT_MS) }).catch(() => {});
  const prefix = stream.read(PREFIX_BYTES) as Buffer | null;
  return prefix?.length === PREFIX_BYTES ? framedLength(prefix) : 0;
}

/** The refusal if the prefix announces a message that is too long: before the message itself is read. */
function tooLong(first: Buffer, maxBytes: number): Refusal | undefined {
  return first.length >= PREFIX_BYTES && framedLength(first) > maxBytes ? tooLarge(maxBytes / 1024 ** 2) : undefined;
}

/** Puts the prefix before a message. */
export function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(PREFIX_BYTES + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, PREFIX_BYTES);
  return frame;
}

function framedLength(prefix: Buffer): number {
  return PREFIX_BYTES + prefix.readUInt32BE(1);
}

function problemOf(length: number, prefix: Buffer, compression: Compression): string | undefined {
  if (length < PREFIX_BYTES) return 'it holds no message';
  if (prefix[0] > 1) return 'its first byte is neither 0 nor 1';
  if (prefix[0] === 1 && compression === 'identity') return 'it is compressed, but grpc-encoding does not name a compression';
  if (length < framedLength(prefix)) return 'the message is shorter than its prefix says';
  if (length > framedLength(prefix)) return 'it holds more than one message';
  return undefined;
}

function withoutPrefix<Memory extends BodyMemory>({ chunks, length, memory }: Body<Memory>): Body<Memory> {
  const rest: Uint8Array[] = [];
  let skip = PREFIX_BYTES;
  for (const chunk of chunks) {
    if (chunk.length > skip) rest.push(chunk.subarray(skip));
    skip = Math.max(0, skip - chunk.length);
  }
  return new Body(rest, length - PREFIX_BYTES, memory);
}
