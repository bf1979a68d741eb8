import type { BlockTrace } from '../tracing/block-trace.ts';
import type { SealedBlock } from '../transcode/block-encoder.ts';
import type { BlockFate } from './block-fate.ts';

/** A sealed block on its way into the queue. */
export interface QueuedBlock extends SealedBlock {
  /** Set if one of its requests is traced. */
  readonly trace?: BlockTrace;
  /** Set if a request may wait for the block to be stored after its acknowledgement. */
  readonly fate?: BlockFate;
}

/** A sealed block in the queue: immutable, and numbered in the order it is to be stored. */
export interface Block extends QueuedBlock {
  readonly sequence: number;
  /** `performance.now()` when it was queued. */
  readonly queuedAtMs: number;
}

/** Consecutive blocks that are sent to ClickHouse together. Once sent, neither its blocks nor its token change. */
export interface Insert {
  readonly blocks: readonly Block[];
  readonly rows: number;
  readonly bytes: number;
  /** Two inserts with the same token are stored once. */
  readonly token: string;
  /** Who may have it already (`Endpoint.deduplicationDomain`), if a process before this one has sent it. */
  readonly sentTo?: string;
  /** Whether some of its rows may be stored by themselves already, as a process before this one had begun to search it for those at fault. */
  readonly isSearched?: boolean;
}

/** The insert of these blocks, with its sums. */
export function insertOf(blocks: readonly Block[], token: string): Insert {
  let rows = 0;
  let bytes = 0;
  for (const block of blocks) {
    rows += block.rows;
    bytes += block.frame.length;
  }
  return { blocks, rows, bytes, token };
}
