import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import { serverName } from '../config/server-url.ts';
import type { Config } from '../config/variables.ts';
import { Availability } from './availability.ts';
import { createClickHouseClient } from './clickhouse.ts';
import { readCredentials, type Credentials } from './credentials.ts';
import { ACCESS_DENIED, denialOf, grantStatements, isStillDenied, type Denial } from './grants.ts';
import { insertBlocks, type InsertOptions, type InsertOutcome } from './insert.ts';
import { countStored } from './lost-rows.ts';
import { newerSettings } from './newer-settings.ts';
import { RepeatedInserts } from './repeated-inserts.ts';
import { blameTable, checkTable } from './table-check.ts';
import { findTextColumns, NO_LIMITS, tableLimits, type TableLimits } from './table-limits.ts';
import { shardFor, findDeduplicationDomain, type DeduplicationDomain } from './deduplication-domain.ts';

/** A server that does not answer a probe within this time is not there. */
const PROBE_TIMEOUT_MS = 30_000;

/** Told what an operator should hear of. */
export interface EndpointEvents {
  available(endpoint: Endpoint, warnings: readonly string[]): void;
  unavailable(endpoint: Endpoint, error: Error): void;
  /** See `RepeatedInsertEvents`. */
  restored(endpoint: Endpoint, rows: number): void;
  unsearchable(endpoint: Endpoint, reason: string): void;
  /** It is available, and `limits` may have changed. */
  checked(endpoint: Endpoint): void;
}

/** One ClickHouse of CLICKHOUSE_URL: a client, and whether it takes inserts. */
export class Endpoint {
  /** Its URL without credentials and query. */
  readonly name: string;
  readonly availability: Availability;
  /** Whether it was ever there, so that `deduplicationDomain` is certain. */
  isKnown = false;
  /** Of its table, as far as it is known. */
  limits: TableLimits = NO_LIMITS;
  private readonly config: Config;
  private readonly url: string;
  private readonly events: EndpointEvents;
  private credentials: Credentials;
  private client: ClickHouseClient;
  private domain: DeduplicationDomain = {};
  private newer: ClickHouseSettings = {};
  private readonly repeated: RepeatedInserts;
  /** What the last insert was refused for, if for want of a grant that `checkTable` could not know of. */
  private denied: Denial | undefined;

  constructor(config: Config, url: string, events: EndpointEvents) {
    this.config = config;
    this.url = url;
    this.events = events;
    this.name = serverName(url);
    this.credentials = readCredentials(config);
    this.client = createClickHouseClient(config, url, this.credentials);
    this.availability = new Availability(() => this.connect());
    this.repeated = new RepeatedInserts(config, {
      restored: (rows) => events.restored(this, rows),
      unsearchable: (reason) => events.unsearchable(this, reason),
    });
  }

  /**
   * Who remembers the tokens of inserts sent here, and drops what comes again: all replicas of a table together, the shards
   * behind a Distributed one, else this server alone.
   */
  get deduplicationDomain(): string {
    return this.domain.sharedAs ?? this.name;
  }

  /**
   * Sends one insert, once. A failure that is worth a retry makes the server unavailable until a probe succeeds.
   * @param sentBefore whether the server may have it already
   */
  async insert(frames: readonly Buffer[], token: string, sentBefore: boolean): Promise<InsertOutcome> {
    const outcome = await this.sendSurely(frames, token, sentBefore);
    if (outcome.status === 'inserted') {
      this.denied = undefined;
      this.availability.confirmed();
    }
    if (outcome.status === 'retry') {
      this.denied = outcome.error.code === ACCESS_DENIED ? denialOf(outcome.error.message) : undefined;
      this.events.unavailable(this, outcome.error);
      this.availability.lost(outcome.error);
    }
    return outcome;
  }

  private async sendSurely(frames: readonly Buffer[], token: string, sentBefore: boolean): Promise<InsertOutcome> {
    const options: InsertOptions = { shard: shardFor(token, this.domain), newer: this.newer };
    const outcome = await blameTable(this.client, this.config, await insertBlocks(this.client, this.config, frames, token, options));
    if (outcome.status !== 'inserted') return outcome;
    if (!sentBefore) {
      await this.repeated.tryVisibility(this.client, frames, options);
      return outcome;
    }
    return this.repeated.makeSure(this.client, frames, token, options);
  }

  /** How many rows of an insert that has failed are in the table all the same; 0 where that can't be found out. */
  async countStored(frames: readonly Buffer[]): Promise<number> {
    return countStored(this.client, this.config, frames, this.newer).catch(() => 0);
  }

  /** Columns of the table, as it is now, that take no text but UTF-8. @throws what ClickHouse says */
  async jsonColumns(): Promise<readonly string[]> {
    return (await findTextColumns(this.client, this.config, true)) ?? [];
  }

  async close(): Promise<void> {
    this.availability.stop();
    await this.client.close();
  }

  /** Is the server there, and fit for inserts? @throws why it is not */
  private async connect(): Promise<void> {
    try {
      // One that is up has taken those in hand, wherever their files are now.
      if (!this.availability.isUp) this.useCurrentCredentials();
      const warnings = await this.inTime(this.check());
      if (!this.availability.isUp) this.events.available(this, warnings);
      this.events.checked(this);
    } catch (error) {
      this.events.unavailable(this, error as Error);
      throw error;
    }
  }

  private async check(): Promise<string[]> {
    // One that is up is asked often, if only to know that it is there.
    const warnings = await checkTable(this.client, this.config, !this.availability.isUp);
    this.domain = await findDeduplicationDomain(this.client, this.config);
    this.newer = await newerSettings(this.client);
    if (this.denied !== undefined && (await isStillDenied(this.client, this.denied))) {
      throw new Error(
        `The last insert was refused because grants are missing. Inserts are paused until they are given. Run: ${grantStatements([this.denied])}`,
      );
    }
    this.limits = await tableLimits(this.client, this.config, this.limits, !this.availability.isUp);
    this.isKnown = true;
    return warnings;
  }

  private useCurrentCredentials(): void {
    const credentials = readCredentials(this.config);
    if (isDeepStrictEqual(credentials, this.credentials)) return;
    this.credentials = credentials;
    this.reconnect();
  }

  /** The connections of the old client end; an insert on one of them is sent again. */
  private reconnect(): void {
    void this.client.close();
    this.client = createClickHouseClient(this.config, this.url, this.credentials);
  }

  /** @throws when `probe` takes too long: then its connections are given up, or they would block all later ones */
  private async inTime<T>(probe: Promise<T>): Promise<T> {
    const timeoutMs = Math.min(PROBE_TIMEOUT_MS, this.config.CLICKHOUSE_TIMEOUT_MS);
    const done = new AbortController();
    const tooLong = sleep(timeoutMs, undefined, { signal: done.signal, ref: false }).then(() => {
      this.reconnect();
      throw new Error(`${this.name} does not answer within ${timeoutMs} ms`);
    });
    try {
      return await Promise.race([probe, tooLong]);
    } finally {
      done.abort();
      tooLong.catch(() => {});
      probe.catch(() => {});
    }
  }
}
