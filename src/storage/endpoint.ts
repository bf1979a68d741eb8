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
import { retryIfTableUnfit, checkTable } from './table-check.ts';
import { NO_LIMITS, type TableLimits } from '../transcode/columns/table-limits.ts';
import { findTextColumns, tableLimits } from './table-limits.ts';
import { shardFor, findDeduplicationDomain, type DeduplicationDomain } from './deduplication-domain.ts';

/** A server that does not answer a probe within this time is unavailable. */
const PROBE_TIMEOUT_MS = 30_000;

/** Callbacks for what an operator should know. */
export interface EndpointEvents {
  /** The first probe after a failure, or after the start, succeeded. */
  available?(endpoint: Endpoint, warnings: readonly string[]): void;
  /** An insert or a probe failed. */
  unavailable?(endpoint: Endpoint, error: Error): void;
  /** See `RepeatedInsertEvents`. */
  restored?(endpoint: Endpoint, rows: number): void;
  unsearchable?(endpoint: Endpoint, reason: string): void;
  /** A probe succeeded, and `limits` may have changed. */
  checked?(endpoint: Endpoint): void;
}

/** One ClickHouse server of CLICKHOUSE_URL: its client, its availability, and what is known of its table. */
export class Endpoint {
  /** The URL without credentials and query. */
  readonly name: string;
  readonly availability: Availability;
  /** Whether a probe has ever succeeded. Until then, `deduplicationDomain` is a guess. */
  isKnown = false;
  /** The limits of its table; NO_LIMITS until the first probe has succeeded. */
  limits: TableLimits = NO_LIMITS;
  private readonly config: Config;
  private readonly url: string;
  private readonly events: EndpointEvents;
  private credentials: Credentials;
  private client: ClickHouseClient;
  private domain: DeduplicationDomain = {};
  private newer: ClickHouseSettings = {};
  private readonly repeated: RepeatedInserts;
  /** The missing grants that the last insert was refused for, which `checkTable` could not find. */
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
      restored: (rows) => events.restored?.(this, rows),
      unsearchable: (reason) => events.unsearchable?.(this, reason),
    });
  }

  /**
   * The name of the deduplication domain. All servers with the same name recognise each other's inserts by their tokens: the replicas
   * of a table, or the shards of a Distributed one. Otherwise it is the name of this server.
   */
  get deduplicationDomain(): string {
    return this.domain.sharedAs ?? this.name;
  }

  /**
   * Sends one insert, once. After a retryable failure the server is unavailable until a probe succeeds.
   * @param sentBefore whether the insert may be stored here already
   */
  async insert(frames: readonly Buffer[], token: string, sentBefore: boolean): Promise<InsertOutcome> {
    const outcome = await this.sendAndVerify(frames, token, sentBefore);
    if (outcome.status === 'inserted') {
      this.denied = undefined;
      this.availability.insertSucceeded();
    }
    if (outcome.status === 'retry') {
      this.denied = outcome.error.code === ACCESS_DENIED ? denialOf(outcome.error.message) : undefined;
      this.events.unavailable?.(this, outcome.error);
      this.availability.insertFailed(outcome.error);
    }
    return outcome;
  }

  private async sendAndVerify(frames: readonly Buffer[], token: string, sentBefore: boolean): Promise<InsertOutcome> {
    const options: InsertOptions = { shard: shardFor(token, this.domain), newer: this.newer };
    const outcome = await retryIfTableUnfit(this.client, this.config, await insertBlocks(this.client, this.config, frames, token, options));
    if (outcome.status !== 'inserted') return outcome;
    if (!sentBefore) {
      await this.repeated.tryVisibility(this.client, frames, options);
      return outcome;
    }
    return this.repeated.verifyStored(this.client, frames, token, options);
  }

  /** How many rows of a failed insert are in the table; 0 if ClickHouse can't be asked. */
  async countStored(frames: readonly Buffer[]): Promise<number> {
    return countStored(this.client, this.config, frames, this.newer).catch(() => 0);
  }

  /** The table's columns, queried now, that refuse text which is not valid UTF-8. @throws ClickHouseError or a network error */
  async jsonColumns(): Promise<readonly string[]> {
    return (await findTextColumns(this.client, this.config, true)) ?? [];
  }

  /** Ends probing and closes the client. */
  async close(): Promise<void> {
    this.availability.stop();
    await this.client.close();
  }

  /** The probe: resolves if the server is reachable and can take inserts. @throws Error with the reason if not */
  private async connect(): Promise<void> {
    try {
      // A server that is up has accepted the credentials in use, even if their files have changed.
      if (!this.availability.isUp) this.useCurrentCredentials();
      const warnings = await this.withProbeTimeout(this.check());
      if (!this.availability.isUp) this.events.available?.(this, warnings);
      this.events.checked?.(this);
    } catch (error) {
      this.events.unavailable?.(this, error as Error);
      throw error;
    }
  }

  private async check(): Promise<string[]> {
    // A server that is up is probed often: only the cheap part of the check is repeated.
    const warnings = await checkTable(this.client, this.config, !this.availability.isUp);
    this.domain = await findDeduplicationDomain(this.client, this.config);
    this.newer = await newerSettings(this.client);
    if (this.denied !== undefined && (await isStillDenied(this.client, this.denied))) {
      throw new Error(
        'The last insert was refused because grants are missing. Inserts are paused until they are granted. ' +
          `Run: ${grantStatements([this.denied])}`,
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

  /** Replaces the client. Connections of the old one are closed; inserts in flight on them are retried. */
  private reconnect(): void {
    void this.client.close();
    this.client = createClickHouseClient(this.config, this.url, this.credentials);
  }

  /** @throws Error when `probe` takes too long. Its connections are closed then: they would block all later probes. */
  private async withProbeTimeout<T>(probe: Promise<T>): Promise<T> {
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
