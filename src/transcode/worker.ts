import { parentPort, workerData } from 'node:worker_threads';
import { BlockEncoder } from './block-encoder.ts';
import type { DialectName } from './dialect.ts';
import { MalformedRequest } from './malformed-request.ts';
import type { Encoding, Transcoded } from './transcoder.ts';

/*
 * A worker thread that transcodes large requests, one at a time, each into a block of its own, while the main thread
 * goes on serving the small ones.
 */

export interface TranscodeWorkerData {
  readonly dialect: DialectName;
  readonly maxSpanBytes: number;
  readonly maxSpanAgeMs: number;
}

export interface TranscodeJob {
  readonly body: Uint8Array;
  readonly encoding: Encoding;
  readonly targetId: string;
}

export type TranscodeAnswer =
  | { readonly status: 'transcoded'; readonly transcoded: Transcoded; readonly frame: Uint8Array; readonly rows: number }
  | { readonly status: 'malformed'; readonly message: string };

const { dialect, maxSpanBytes, maxSpanAgeMs } = workerData as TranscodeWorkerData;
const encoder = new BlockEncoder(dialect, maxSpanBytes, maxSpanAgeMs);

parentPort!.on('message', ({ body, encoding, targetId }: TranscodeJob) => {
  const answer = transcode(body, encoding, targetId);
  // The frame is a piece of a larger buffer: it is copied, as it is small.
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
  parentPort!.postMessage(answer);
});

function transcode(body: Uint8Array, encoding: Encoding, targetId: string): TranscodeAnswer {
  try {
    const transcoded = encoder.add([body], encoding, targetId);
    const { frame, rows } = encoder.seal();
    return { status: 'transcoded', transcoded, frame, rows };
  } catch (error) {
    if (error instanceof MalformedRequest) return { status: 'malformed', message: error.message };
    throw error;
  }
}
