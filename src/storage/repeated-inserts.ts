import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { InsertError } from './insert-error.ts';
import type { InsertOptions, InsertOutcome } from './insert.ts';
import { countLost, insertLost } from './lost-rows.ts';

/** An insert waits until its rows can be looked for, but after so many failures no longer. */
const MAX_FAILURES = 5;

/** Inserts that are tried, at most, to find out whether rows are found. */
const MAX_TRIALS = 5;

/** Under so many tokens lost rows are inserted again. */
const MAX_ATTEMPTS = 2;

/** What is answered to a search by the user's rights and limits, today and tomorrow. */
const NOT_ALLOWED: ReadonlySet<string> = new Set([
  '158', // TOO_MANY_ROWS
  '191', // SET_SIZE_LIMIT_EXCEEDED
  '307', // TOO_MANY_BYTES
  '452', // SETTING_CONSTRAINT_VIOLATION
  '497', // ACCESS_DENIED
]);

/** Told what an operator should hear of. */
export interface RepeatedInsertEvents {
  /** Rows that a killed server had lost are inserted again. */
  restored(rows: number): void;
  /** Nobody knows whether a killed server has lost rows of an insert. */
  unsearchable(reason: string): void;
}

class NotFound extends Error {
  override readonly name = 'NotFound';

  constructor(rows: number) {
    super(`${rows} rows that were just inserted are not found, as if they had expired, or a row policy hid them`);
  }
}

/** Inserts that were sent to a server before, and are stored as it says: makes sure of it (lost-rows.ts says why). */
export class RepeatedInserts {
  private readonly config: Config;
  private readonly events: RepeatedInsertEvents;
  /** By token. */
  private readonly failures = new Map<string, number>();
  /** Whether rows are found that are there: a user may be shown none (row policies). Unknown until the first insert. */
  private finds: boolean | undefined;
  /** Inserts that were tried for that. */
  private trials = 0;

  constructor(config: Config, events: RepeatedInsertEvents) {
    this.config = config;
    this.events = events;
  }

  /** Finds out, by an insert that was sent once and is stored, whether others can be looked for. */
  async tryVisibility(client: ClickHouseClient, frames: readonly Buffer[], { newer }: InsertOptions): Promise<void> {
    if (this.finds !== undefined || this.trials === MAX_TRIALS || this.config.CLICKHOUSE_ASYNC_INSERT) return;
    this.trials++;
    try {
      // One block will do: after a start the first insert may be a large one, and waits here.
      const count = await countLost(client, this.config, frames.slice(0, 1), newer);
      if (count?.blind === true) throw new NotFound(count.lost);
      // A few may have expired (TTL) by now.
      if (count === undefined || count.lost < count.rows) this.finds = true;
    } catch (error) {
      const transient = isTransient(error as Error);
      if (!transient) this.finds = false;
      // Who can't be asked now may be when it matters.
      if (!transient || this.trials === MAX_TRIALS) this.events.unsearchable((error as Error).message);
    }
  }

  /** Sends again what of an insert is not there. Tried again when it comes to a retry. */
  async makeSure(client: ClickHouseClient, frames: readonly Buffer[], token: string, options: InsertOptions): Promise<InsertOutcome> {
    // An async insert that nobody waits for may be there later.
    if (this.finds === false || this.config.CLICKHOUSE_ASYNC_INSERT) return { status: 'inserted' };
    try {
      const outcome = await this.restore(client, frames, token, options);
      if (outcome.status === 'retry') return retry(outcome.error);
      if (outcome.status === 'poison') throw outcome.error;
    } catch (error) {
      if (this.isWorthARetry(error as Error, token)) return retry(error as Error);
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
      if (lost < rows) this.finds = true;
      if (before !== undefined && lost < before) this.events.restored(before - lost);
      if (lost === 0) return { status: 'inserted' };
      if (blind) throw new NotFound(lost);
      if (attempt > (this.finds === true ? MAX_ATTEMPTS : 1)) {
        this.finds ??= false;
        throw new NotFound(lost);
      }
      before = lost;
      // Repeated after a crash, it is recognised like any other, and may be lost like any other: then the next is tried.
      const outcome = await insertLost(client, this.config, frames, `${token}-${attempt}`, options);
      if (outcome.status !== 'inserted') return outcome;
    }
  }

  private isWorthARetry(error: Error, token: string): boolean {
    const failures = (this.failures.get(token) ?? 0) + 1;
    this.failures.set(token, failures);
    return isTransient(error) && failures < MAX_FAILURES;
  }
}

/** The insert may be stored by now, whatever has come of the search: no other server may get it. */
function retry(error: Error): InsertOutcome {
  const { code = 'SEARCH', message } = error as NodeJS.ErrnoException;
  return { status: 'retry', error: new InsertError(code, message === '' ? code : message, undefined, error) };
}

/** Whether the same question may be answered another time. */
function isTransient(error: Error): boolean {
  return !(error instanceof NotFound || (error instanceof ClickHouseError && NOT_ALLOWED.has(error.code)));
}
