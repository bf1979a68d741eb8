import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { InsertError } from './insert-error.ts';
import type { InsertOptions, InsertOutcome } from './insert.ts';
import { countLost, insertLost } from './lost-rows.ts';

/** An insert is held back while the search for its rows fails, but only for this many failures. */
const MAX_FAILURES = 5;

/** The number of inserts whose rows are searched for, at most, to find out whether the user can see rows. */
const MAX_TRIALS = 5;

/** Lost rows are inserted again with up to this many further tokens. */
const MAX_ATTEMPTS = 2;

/** Exceptions that a search fails with because of the user's grants and limits. A retry would not help. */
const NOT_ALLOWED: ReadonlySet<string> = new Set([
  '158', // TOO_MANY_ROWS
  '191', // SET_SIZE_LIMIT_EXCEEDED
  '307', // TOO_MANY_BYTES
  '452', // SETTING_CONSTRAINT_VIOLATION
  '497', // ACCESS_DENIED
]);

/** Callbacks for what an operator should know. */
export interface RepeatedInsertEvents {
  /** Rows that a killed server had lost were inserted again. */
  restored(rows: number): void;
  /** It is unknown whether a killed server has lost rows of an insert. */
  unsearchable(reason: string): void;
}

class NotFound extends Error {
  override readonly name = 'NotFound';

  constructor(rows: number) {
    super(`${rows} rows that were just inserted are not found: they may have expired, or a row policy hides them`);
  }
}

/** Verifies that the rows of a retried insert are stored when the server says so (see lost-rows.ts), and restores them if not. */
export class RepeatedInserts {
  private readonly config: Config;
  private readonly events: RepeatedInsertEvents;
  /** Failed searches by token. */
  private readonly failures = new Map<string, number>();
  /** Whether the user can see stored rows, which a row policy may prevent. Undefined until the first insert. */
  private seesRows: boolean | undefined;
  /** Inserts whose rows were searched for to find that out. */
  private trials = 0;

  constructor(config: Config, events: RepeatedInsertEvents) {
    this.config = config;
    this.events = events;
  }

  /** Searches for the rows of an insert that was just stored: finds out whether the user can see rows at all. Never rejects. */
  async tryVisibility(client: ClickHouseClient, frames: readonly Buffer[], { newer }: InsertOptions): Promise<void> {
    if (this.seesRows !== undefined || this.trials === MAX_TRIALS || this.config.CLICKHOUSE_ASYNC_INSERT) return;
    this.trials++;
    try {
      // One block is enough: the first insert after a start may be large, and waits for this search.
      const count = await countLost(client, this.config, frames.slice(0, 1), newer);
      if (count?.blind === true) throw new NotFound(count.lost);
      // Some rows may have expired (TTL) already.
      if (count === undefined || count.lost < count.rows) this.seesRows = true;
    } catch (error) {
      const transient = isTransient(error as Error);
      if (!transient) this.seesRows = false;
      // A search that fails now may succeed when it is needed.
      if (!transient || this.trials === MAX_TRIALS) this.events.unsearchable((error as Error).message);
    }
  }

  /**
   * Searches for the rows of an insert that the server says it has, and inserts those that are missing. `retry` if the search failed:
   * the caller then repeats the insert, and with it the search. Never rejects.
   */
  async verifyStored(client: ClickHouseClient, frames: readonly Buffer[], token: string, options: InsertOptions): Promise<InsertOutcome> {
    // Rows of an async insert may become visible only later.
    if (this.seesRows === false || this.config.CLICKHOUSE_ASYNC_INSERT) return { status: 'inserted' };
    try {
      const outcome = await this.restore(client, frames, token, options);
      if (outcome.status === 'retry') return retry(outcome.error);
      if (outcome.status === 'poison') throw outcome.error;
    } catch (error) {
      if (this.mayRetry(error as Error, token)) return retry(error as Error);
      this.events.unsearchable((error as Error).message);
    }
    this.failures.delete(token);
    return { status: 'inserted' };
  }

  private async restore(
    client: ClickHouseClient,
    frames: readonly Buffer[],
    token: string,
    options: InsertOptions,
  ): Promise<InsertOutcome> {
    let before: number | undefined;
    for (let attempt = 1; ; attempt++) {
      const count = await countLost(client, this.config, frames, options.newer);
      if (count === undefined) return { status: 'inserted' };
      const { rows, lost, blind } = count;
      if (lost < rows) this.seesRows = true;
      if (before !== undefined && lost < before) this.events.restored(before - lost);
      if (lost === 0) return { status: 'inserted' };
      if (blind) throw new NotFound(lost);
      if (attempt > (this.seesRows === true ? MAX_ATTEMPTS : 1)) {
        this.seesRows ??= false;
        throw new NotFound(lost);
      }
      before = lost;
      // After another crash this insert may be lost in the same way. Then the next attempt has another token.
      const outcome = await insertLost(client, this.config, frames, `${token}-${attempt}`, options);
      if (outcome.status !== 'inserted') return outcome;
    }
  }

  private mayRetry(error: Error, token: string): boolean {
    const failures = (this.failures.get(token) ?? 0) + 1;
    this.failures.set(token, failures);
    return isTransient(error) && failures < MAX_FAILURES;
  }
}

/** A retry to the same server: the insert may be stored there, however the search failed. */
function retry(error: Error): InsertOutcome {
  const { code = 'SEARCH', message } = error as NodeJS.ErrnoException;
  return { status: 'retry', error: new InsertError(code, message === '' ? code : message, undefined, error) };
}

/** Whether the same search may succeed later. */
function isTransient(error: Error): boolean {
  return !(error instanceof NotFound || (error instanceof ClickHouseError && NOT_ALLOWED.has(error.code)));
}
