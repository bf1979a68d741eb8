import { parentPort, workerData } from 'node:worker_threads';
import type { Encoding } from '../otlp/encoding.ts';
import { freeBuffer } from '../runtime/free-buffer.ts';
import { BlockEncoder } from './block-encoder.ts';
import { MalformedRequest } from './bytes/malformed-request.ts';
import type { DialectName } from './columns/dialect.ts';
import type { TranscodeRules } from './columns/transcode-rules.ts';
import type { Transcoded } from './transcoder.ts';

/*
 * A worker thread that transcodes large requests, one at a time, each into a block of its own, while the main thread
 * goes on serving the small ones.
 */

export interface TranscodeWorkerData {
  readonly dialect: DialectName;
  readonly maxSpanBytes: number;
}

export interface TranscodeJob {
  readonly body: readonly Uint8Array[];
  readonly encoding: Encoding;
  readonly targetId: string;
  readonly rules: TranscodeRules;
}

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
    const bodyBytes = body.reduce((sum, piece) => sum + piece.length, 0);
    const transcoded = encoder.add(freed(body), encoding, targetId, bodyBytes);
    const { frame, rows } = encoder.seal();
    // In memory of its own it moves to the main thread, which would have to copy it otherwise.
    return { status: 'transcoded', transcoded, frame: new Uint8Array(frame), rows };
  } catch (error) {
    if (error instanceof MalformedRequest) return { status: 'malformed', message: error.message };
    throw error;
  }
}

/** The pieces, each freed when the next one is asked for. */
function* freed(pieces: readonly Uint8Array[]): Generator<Uint8Array> {
  for (const piece of pieces) {
    yield piece;
    freeBuffer(piece);
  }
}
