import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { InsertError } from './insert-error.ts';
import type { InsertOptions, InsertOutcome } from './insert.ts';
import { countLost, insertLost } from './lost-rows.ts';

/** An insert waits until its rows can be looked for, but after so many failures no longer. */
const MAX_FAILURES = 5;

/** Under so many tokens lost rows are inserted again. */
const MAX_ATTEMPTS = 3;

const ACCESS_DENIED = '497';

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
    super(`${rows} rows that were just inserted are not found`);
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

  constructor(config: Config, events: RepeatedInsertEvents) {
    this.config = config;
    this.events = events;
  }

  /** Finds out, by an insert that was sent once and is stored, whether others can be looked for. */
  async learn(client: ClickHouseClient, frames: readonly Buffer[]): Promise<void> {
    if (this.finds !== undefined || this.config.CLICKHOUSE_ASYNC_INSERT) return;
    this.finds = true;
    try {
      const count = await countLost(client, this.config, frames);
      if (count !== undefined && count.lost > 0) throw new NotFound(count.lost);
    } catch (error) {
      // Who can't be asked now will be when it matters.
      if (isTransient(error as Error)) return;
      this.finds = false;
      this.events.unsearchable((error as Error).message);
    }
  }

  /** Sends again what of an insert is not there. Tried again when it comes to a retry. */
  async makeSure(client: ClickHouseClient, frames: readonly Buffer[], token: string, options: InsertOptions): Promise<InsertOutcome> {
    // An async insert that nobody waits for may be there later.
    if (this.finds === false || this.config.CLICKHOUSE_ASYNC_INSERT) return { status: 'inserted' };
    try {
      const outcome = await this.restore(client, frames, token, options);
      if (outcome.status !== 'inserted') return { status: 'retry', error: outcome.error };
    } catch (error) {
      if (this.isWorthARetry(error as Error, token)) return { status: 'retry', error: InsertError.fromNetwork(error) };
      this.events.unsearchable((error as Error).message);
    }
    this.failures.delete(token);
    return { status: 'inserted' };
  }

  private async restore(client: ClickHouseClient, frames: readonly Buffer[], token: string, options: InsertOptions): Promise<InsertOutcome> {
    let before: number | undefined;
    for (let attempt = 1; ; attempt++) {
      const count = await countLost(client, this.config, frames);
      if (count === undefined) return { status: 'inserted' };
      const { rows, lost } = count;
      if (lost < rows) this.finds = true;
      if (before !== undefined && lost < before) this.events.restored(before - lost);
      if (lost === 0) return { status: 'inserted' };
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

/** Whether the same question may be answered another time. */
function isTransient(error: Error): boolean {
  return !(error instanceof NotFound || (error instanceof ClickHouseError && error.code === ACCESS_DENIED));
}
