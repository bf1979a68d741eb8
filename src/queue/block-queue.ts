import type { InsertError } from '../storage/insert-error.ts';
import type { RowRange } from '../transcode/native/native-rows.ts';
import type { Insert, QueuedBlock } from './block.ts';
import type { SearchStep } from './search-step.ts';

export interface Waiting {
  readonly blocks: number;
  readonly rows: number;
  readonly bytes: number;
  /** `performance.now()` when the oldest of them was queued; Infinity if there is none. */
  readonly oldestAtMs: number;
}

/**
 * What became of acknowledged spans, since the start. When no request is in hand:
 * accepted + recovered + storedAfterRefusal = stored in ClickHouse + buffered + dropped + joined (UnstoredRequests)
 */
export interface SpanAccounts {
  /** Acknowledged, and not in ClickHouse yet. */
  readonly buffered: number;
  /** There at the start, acknowledged by a process before this one. */
  readonly recovered: number;
  /** Stored, or going to be, though their senders were told that they are not. Also what an insert left in the table when a view failed it. */
  readonly storedAfterRefusal: number;
}

/** Spans that are not in ClickHouse when a shutdown runs out of time, by what becomes of them. */
export interface Abandoned {
  /** Acknowledged, and in the disk buffer: the next collector that starts on it sends them. */
  readonly spansInDiskBuffer: number;
  /** Not acknowledged: their senders are told to send them again. */
  readonly spansRefused: number;
  /** Acknowledged, and in memory alone. */
  readonly spansLost: number;
}

/** Who refused an insert for good, and why. */
export interface Refused {
  readonly error: InsertError;
  /** `Endpoint.deduplicationDomain` */
  readonly server: string;
}

/** What a search for the rows at fault has found out, kept where a crash does not lose it. */
export interface SearchJournal {
  readonly steps: readonly SearchStep[];
  /** Resolves when the step is safe. @throws when it can't be kept */
  add(step: SearchStep): Promise<void>;
}

/** Rows of a block that ClickHouse will never take, as an insert of their own. */
export interface RefusedPart {
  readonly insert: Insert;
  readonly ranges: readonly RowRange[];
  readonly refused: Refused;
}

/** Keeps an acknowledged block that ClickHouse will never take. Resolves when it is safe; throws when it can't be kept now. */
export type KeepDeadLetter = (insert: Insert, refused: Refused) => Promise<void>;

/** Where sealed blocks wait for an insert worker. In memory, or in the disk buffer. */
export abstract class BlockQueue {
  /** Blocks that no insert worker has taken yet. */
  abstract readonly waiting: Waiting;
  /** What may wait, in bytes. */
  abstract readonly capacityBytes: number;
  abstract readonly accounts: SpanAccounts;
  /** Whether what is pushed is durable before ClickHouse has it, or acknowledged in any case. */
  abstract readonly isDurableAtOnce: boolean;
  /** Whether ClickHouse has confirmed an insert a moment ago. */
  abstract readonly isQuick: boolean;
  /** Called after a block was added. */
  onBlock: () => void = () => {};
  /** Adds the block that requests are gathered in now. */
  sealOpenBlock: () => void = () => {};

  /** Whether the memory is half full: waiting would only take more of it. */
  get isShortOfRoom(): boolean {
    return false;
  }

  /**
   * Adds a block. Resolves when its rows are durable, which is what their senders are told.
   * Rejects with the Refusal they get when that can't be had in time; the block may be thrown away then.
   */
  abstract push(block: QueuedBlock): Promise<void>;

  /** Why no more requests can be taken right now, if so. */
  abstract refusal(): Error | undefined;

  /** Takes the oldest waiting blocks, at least one, up to the limits, for one insert. Undefined if none waits. */
  abstract take(maxRows: number, maxBytes: number): Insert | undefined;

  /** Resolves when the insert may be sent to `server` (`Endpoint.deduplicationDomain`). @throws Error when it may not, for now */
  abstract prepare(insert: Insert, server: string): Promise<void>;

  /** The two inserts that an insert of several blocks is to be sent as instead. */
  abstract split(insert: Insert): readonly [Insert, Insert];

  /**
   * Whether an insert that has failed is still worth sending again.
   * @param isStoredInPart whether some of its rows are stored by themselves already
   */
  abstract isWanted(insert: Insert, isStoredInPart: boolean): boolean;

  /** The insert is in ClickHouse. */
  abstract confirm(insert: Insert): void;

  /**
   * ClickHouse will never take the insert, which is a single block. Resolves when its senders know, or it is kept elsewhere.
   * @throws Error when it can't be kept now; it stays, to be called for again
   */
  abstract reject(insert: Insert, refused: Refused): Promise<void>;

  /** Where the search for the rows at fault in an insert of a single block is noted; undefined if the rows are lost in a crash anyway. */
  abstract journal(insert: Insert): SearchJournal | undefined;

  /**
   * ClickHouse has all rows of an insert of a single block but those of `refused`. Resolves when their senders know, or they are kept
   * elsewhere.
   * @throws Error when they can't be kept now; to be called for again
   */
  abstract confirmExcept(insert: Insert, refused: readonly RefusedPart[]): Promise<void>;

  /** The insert is not sent any more: nobody wants it, or the collector ends. @param storedRows what it left in the table when it failed */
  abstract release(insert: Insert, storedRows: number): void;

  /** Refuses whatever is not durable yet; at shutdown, when there is no time left. */
  abstract abandon(reason: Error): Abandoned;
}
