import { setImmediate as immediate } from 'node:timers/promises';
import type { Body } from '../bodies/request-body.ts';
import type { Config } from '../config/variables.ts';
import type { Encoding } from '../otlp/encoding.ts';
import { freeBuffer } from '../runtime/free-buffer.ts';
import type { TranscodeRules } from '../transcode/columns/transcode-rules.ts';
import type { TranscodeAnswer } from '../transcode/worker.ts';

/** A block of one request. */
export type TranscodedBody = Extract<TranscodeAnswer, { status: 'transcoded' }>;

/** Transcodes bodies that are too large for the event loop. */
export abstract class LargeBodies {
  /**
   * Makes a block of one request. Targets are served one after the other.
   * @throws MalformedRequest, Refusal 503
   */
  abstract transcode(body: Body, encoding: Encoding, targetId: string, rules: TranscodeRules): Promise<TranscodedBody>;
}

/** SPAN_MAX_SIZE_KB in bytes. */
export function maxSpanBytes({ SPAN_MAX_SIZE_KB: sizeKb }: Pick<Config, 'SPAN_MAX_SIZE_KB'>): number {
  return sizeKb === 0 ? Number.POSITIVE_INFINITY : sizeKb * 1024;
}

/** Bytes of a body that are copied in one tick of the event loop: about a millisecond's work. */
const COPY_SLICE_BYTES = 1024 * 1024;

/**
 * Copies a body into buffers that can be transferred to another thread, and frees it. Each chunk is removed as it is copied, so that
 * memory holds the body once.
 */
export async function movable(body: Body): Promise<Uint8Array<ArrayBuffer>[]> {
  const { chunks } = body;
  const moved: Uint8Array<ArrayBuffer>[] = [];
  while (chunks.length > 0) {
    let count = 0;
    let length = 0;
    while (count < chunks.length && length < COPY_SLICE_BYTES) length += chunks[count++].length;
    moved.push(concatenated(chunks.splice(0, count), length));
    if (chunks.length > 0) await immediate();
  }
  body.free();
  return moved;
}

function concatenated(chunks: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
    freeBuffer(chunk);
  }
  return whole;
}
