import { parentPort, workerData } from 'node:worker_threads';
import type { Encoding } from '../otlp/encoding.ts';
import { freeBuffer } from '../runtime/free-buffer.ts';
import { BlockEncoder } from './block-encoder.ts';
import { MalformedRequest } from './bytes/malformed-request.ts';
import type { DialectName } from './columns/dialect.ts';
import type { TranscodeRules } from './columns/transcode-rules.ts';
import type { Transcoded } from './transcoder.ts';

/*
 * A worker thread. It transcodes large requests, one at a time, each into a block of its own. The main thread serves small requests
 * in the meantime.
 */

/** The start data of a worker thread. */
export interface TranscodeWorkerData {
  readonly dialect: DialectName;
  readonly maxSpanBytes: number;
}

/** A request to the worker thread: transcode this body. */
export interface TranscodeJob {
  readonly body: readonly Uint8Array[];
  readonly encoding: Encoding;
  readonly targetId: string;
  readonly rules: TranscodeRules;
}

/** The worker thread's answer to a job. */
export type TranscodeAnswer =
  | { readonly status: 'transcoded'; readonly transcoded: Transcoded; readonly frame: Uint8Array<ArrayBuffer>; readonly rows: number }
  | { readonly status: 'malformed'; readonly message: string };

const { dialect, maxSpanBytes } = workerData as TranscodeWorkerData;
const encoder = new BlockEncoder(dialect, maxSpanBytes);

parentPort!.on('message', ({ body, encoding, targetId, rules }: TranscodeJob) => {
  encoder.setRules(rules);
  const answer = transcode(body, encoding, targetId);
  parentPort!.postMessage(answer, answer.status === 'transcoded' ? [answer.frame.buffer] : []);
});

function transcode(body: readonly Uint8Array[], encoding: Encoding, targetId: string): TranscodeAnswer {
  try {
    const bodyBytes = body.reduce((sum, chunk) => sum + chunk.length, 0);
    const transcoded = encoder.add(freed(body), encoding, targetId, bodyBytes);
    const { frame, rows } = encoder.seal();
    // A copy with its own memory can be transferred to the main thread.
    return { status: 'transcoded', transcoded, frame: new Uint8Array(frame), rows };
  } catch (error) {
    if (error instanceof MalformedRequest) return { status: 'malformed', message: error.message };
    throw error;
  }
}

/** Yields the chunks, and frees each when the next one is asked for. */
function* freed(chunks: readonly Uint8Array[]): Generator<Uint8Array> {
  for (const chunk of chunks) {
    yield chunk;
    freeBuffer(chunk);
  }
}
