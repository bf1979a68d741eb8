import type { BlockTrace } from '../tracing/block-trace.ts';
import type { SealedBlock } from '../transcode/block-encoder.ts';
import type { BlockOutcome } from './block-outcome.ts';

/** A sealed block on its way into the queue. */
export interface QueuedBlock extends SealedBlock {
  /** Set if one of the block's requests is traced. */
  readonly trace?: BlockTrace;
  /** Set if a retried request may wait for the block to be stored. */
  readonly outcome?: BlockOutcome;
}

/** A sealed block in the queue: immutable, and numbered in the order in which it was queued. */
export interface Block extends QueuedBlock {
  readonly sequence: number;
  /** `performance.now()` when it was queued. */
  readonly queuedAtMs: number;
}

/** Consecutive blocks that are sent to ClickHouse as one insert. Once it is sent, its blocks and its token never change. */
export interface Insert {
  readonly blocks: readonly Block[];
  readonly rows: number;
  readonly bytes: number;
  /** The deduplication token: ClickHouse stores two inserts with the same token once. */
  readonly token: string;
  /** The server that may have stored it already (`Endpoint.deduplicationDomain`), if an earlier process has sent it. */
  readonly sentTo?: string;
  /** Whether an earlier process has begun to search it for refused rows: some of its rows may be stored under other tokens. */
  readonly isSearched?: boolean;
}

/** Makes an insert of `blocks`, with the sums of their rows and bytes. */
export function insertOf(blocks: readonly Block[], token: string): Insert {
  let rows = 0;
  let bytes = 0;
  for (const block of blocks) {
    rows += block.rows;
    bytes += block.frame.length;
  }
  return { blocks, rows, bytes, token };
}
