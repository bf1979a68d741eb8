import type { InsertError } from '../storage/insert-error.ts';
import type { RowRange } from '../transcode/native/native-rows.ts';
import type { Insert, QueuedBlock } from './block.ts';
import type { SearchStep } from './search-step.ts';

/** The blocks in a queue, as sums. */
export interface Waiting {
  readonly blocks: number;
  readonly rows: number;
  readonly bytes: number;
  /** `performance.now()` when the oldest of them was queued; Infinity if there is none. */
  readonly oldestAtMs: number;
}

/**
 * Counts of acknowledged spans since the start. When no request is in flight:
 * accepted + recovered + storedAfterRefusal = stored in ClickHouse + buffered + dropped + joined (UnstoredRequests)
 */
export interface SpanAccounts {
  /** Acknowledged, and not in ClickHouse yet. */
  readonly buffered: number;
  /** In the disk buffer at the start, and not known to be in ClickHouse: acknowledged by an earlier process. */
  readonly recovered: number;
  /**
   * Stored, or about to be, although their senders got an error. Includes the rows that stay in the table when a view fails
   * the insert.
   */
  readonly storedAfterRefusal: number;
}

/** Spans that are not in ClickHouse when a shutdown runs out of time. */
export interface Abandoned {
  /** Acknowledged, and in the disk buffer: the next collector that opens it inserts them. */
  readonly spansInDiskBuffer: number;
  /** Not acknowledged: their senders get an error, and retry. */
  readonly spansRefused: number;
  /** Acknowledged, and in memory only: lost. */
  readonly spansLost: number;
}

/** A permanent refusal of an insert by a server. */
export interface Refused {
  readonly error: InsertError;
  /** `Endpoint.deduplicationDomain` */
  readonly server: string;
}

/** The progress of a search for the rows that ClickHouse refuses, stored so that it survives a crash. */
export interface SearchJournal {
  readonly steps: readonly SearchStep[];
  /** Resolves when the step is on the disk. @throws Error when it can't be written */
  add(step: SearchStep): Promise<void>;
}

/** Rows of a block that ClickHouse refuses permanently, as a separate insert. */
export interface RefusedPart {
  readonly insert: Insert;
  readonly ranges: readonly RowRange[];
  readonly refused: Refused;
}

/**
 * Stores an acknowledged block that ClickHouse refuses permanently. Resolves when it is on the disk.
 * @throws Error when it can't be stored now
 */
export type KeepDeadLetter = (insert: Insert, refused: Refused) => Promise<void>;

/** Where sealed blocks go: what requests see of the queue. */
export abstract class BlockSink {
  /** The blocks that no insert worker has taken yet. */
  abstract readonly waiting: Pick<Waiting, 'oldestAtMs'>;
  /** Whether a pushed block is acknowledged without waiting for ClickHouse. */
  abstract readonly isDurableAtOnce: boolean;
  /** Whether ClickHouse has confirmed an insert recently, or confirmations are not waited for. */
  abstract readonly isQuick: boolean;
  /** Seals the open block and pushes it. A promise if that takes longer than the call. */
  sealOpenBlock: () => void | Promise<void> = () => {};

  /**
   * Adds a block, and takes over its frame. Resolves when its rows are durable: their requests are then answered 200.
   * Rejects with the Refusal for their senders when they are not durable in time; the block may then be dropped.
   */
  abstract push(block: QueuedBlock): Promise<void>;

  /** The reason to refuse new requests now; undefined if they are accepted. */
  abstract refusal(): Error | undefined;
}

/** The queue of sealed blocks that wait for an insert worker: in memory, or in the disk buffer. */
export abstract class BlockQueue extends BlockSink {
  abstract override readonly waiting: Waiting;
  /** The capacity of the queue, in bytes. */
  abstract readonly capacityBytes: number;
  abstract readonly accounts: SpanAccounts;
  /** Called after a block was added. */
  onBlock: () => void = () => {};

  /** Whether memory is more than half full: inserts should start without waiting for more blocks. */
  get isShortOfRoom(): boolean {
    return false;
  }

  /** Takes the oldest waiting blocks for one insert: at least one, and no more than the limits allow. Undefined if none waits. */
  abstract take(maxRows: number, maxBytes: number): Insert | undefined;

  /** Records that the insert is about to be sent to `server` (`Endpoint.deduplicationDomain`). @throws Error when it may not be sent now */
  abstract prepare(insert: Insert, server: string): Promise<void>;

  /** Splits an insert of several blocks into two inserts that are sent in its place. */
  abstract split(insert: Insert): readonly [Insert, Insert];

  /**
   * Whether a failed insert should be retried.
   * @param isStoredInPart whether some of its rows are already stored, by a search for the refused rows
   */
  abstract isWanted(insert: Insert, isStoredInPart: boolean): boolean;

  /** Marks an insert as stored in ClickHouse. */
  abstract confirm(insert: Insert): void;

  /**
   * Ends an insert of a single block that ClickHouse refuses permanently. Resolves when its requests are answered, or the block
   * is a dead letter.
   * @throws Error when the dead letter can't be written now; the block stays in the queue, and the call can be repeated
   */
  abstract reject(insert: Insert, refused: Refused): Promise<void>;

  /** The journal of the search for the refused rows of an insert of a single block; undefined if a crash would lose the block anyway. */
  abstract journal(insert: Insert): SearchJournal | undefined;

  /**
   * Ends an insert of a single block of which all rows are stored, except those of `refused`. Resolves when the requests are
   * answered, or the refused rows are dead letters.
   * @throws Error when a dead letter can't be written now; the call can be repeated
   */
  abstract confirmExcept(insert: Insert, refused: readonly RefusedPart[]): Promise<void>;

  /**
   * Gives up an insert: it is no longer wanted, or the collector stops.
   * @param storedRows rows of it that are in the table although it failed
   */
  abstract release(insert: Insert, storedRows: number): void;

  /** Refuses all requests whose blocks are not durable yet: when a shutdown runs out of time. */
  abstract abandon(reason: Error): Abandoned;
}
