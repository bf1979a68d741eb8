import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { Availability } from './availability.ts';
import { createClickHouseClient } from './clickhouse.ts';
import { readCredentials, type Credentials } from './credentials.ts';
import { insertBlocks, type InsertOutcome } from './insert.ts';
import { blameTable, checkTable } from './table-check.ts';

/** A server that does not answer a probe within this time is not there. */
const PROBE_TIMEOUT_MS = 30_000;

/** What a server that will not say where its replicas meet answers, today and tomorrow. */
const NOT_TOLD: ReadonlySet<string> = new Set([
  '36', // BAD_ARGUMENTS
  '60', // UNKNOWN_TABLE: it has no Keeper but auxiliary ones
  '497', // ACCESS_DENIED
]);

/** Told what an operator should hear of. */
export interface EndpointEvents {
  available(endpoint: Endpoint, warnings: readonly string[]): void;
  unavailable(endpoint: Endpoint, error: Error): void;
}

/** One ClickHouse of CLICKHOUSE_URL: a client, and whether it takes inserts. */
export class Endpoint {
  /** Its URL without path and credentials. */
  readonly name: string;
  readonly availability: Availability;
  /** Whether it was ever there, so that `memory` is certain. */
  isKnown = false;
  private readonly config: Config;
  private readonly url: string;
  private readonly events: EndpointEvents;
  private credentials: Credentials;
  private client: ClickHouseClient;
  private replicated: string | undefined;

  constructor(config: Config, url: string, events: EndpointEvents) {
    this.config = config;
    this.url = url;
    this.events = events;
    this.name = new URL(url).origin;
    this.credentials = readCredentials(config);
    this.client = createClickHouseClient(config, url, this.credentials);
    this.availability = new Availability(() => this.connect());
  }

  /**
   * Who remembers the tokens of inserts sent here, and drops what comes again: all replicas of a table together, else this
   * server alone.
   */
  get memory(): string {
    return this.replicated ?? this.name;
  }

  /** Sends one insert, once. A failure that is worth a retry makes the server unavailable until a probe succeeds. */
  async insert(frames: readonly Buffer[], token: string): Promise<InsertOutcome> {
    const outcome = await blameTable(this.client, this.config, await insertBlocks(this.client, this.config, frames, token));
    if (outcome.status === 'inserted') this.availability.confirmed();
    if (outcome.status === 'retry') {
      this.events.unavailable(this, outcome.error);
      this.availability.lost(outcome.error);
    }
    return outcome;
  }

  async close(): Promise<void> {
    this.availability.stop();
    await this.client.close();
  }

  /** Is the server there, and fit for inserts? @throws why it is not */
  private async connect(): Promise<void> {
    try {
      this.useCurrentCredentials();
      const warnings = await this.inTime(this.check());
      if (!this.availability.isUp) this.events.available(this, warnings);
    } catch (error) {
      this.events.unavailable(this, error as Error);
      throw error;
    }
  }

  private async check(): Promise<string[]> {
    const warnings = await checkTable(this.client, this.config);
    this.replicated = await replicationPath(this.client, this.config);
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

/** What the replicas of a table share: its place in Keeper; undefined if it has none, or the user may not know. */
async function replicationPath(client: ClickHouseClient, { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config): Promise<string | undefined> {
  const query_params = { database, table };
  const result = await client.query({
    query: 'SELECT engine, toString(uuid) AS uuid FROM system.tables WHERE database = {database:String} AND name = {table:String}',
    query_params,
    format: 'JSONEachRow',
  });
  const [found] = await result.json<{ engine: string; uuid: string }>();
  if (found?.engine.startsWith('Shared')) return `replicated ${found.uuid}`;
  if (!found?.engine.startsWith('Replicated')) return undefined;
  try {
    const replicas = await client.query({
      query: 'SELECT zookeeper_path AS path FROM system.replicas WHERE database = {database:String} AND table = {table:String}',
      query_params,
      format: 'JSONEachRow',
    });
    const [replica] = await replicas.json<{ path: string }>();
    return replica && (await keeperNode(client, replica.path));
  } catch (error) {
    // Then each server counts as one that remembers for itself alone.
    if (error instanceof ClickHouseError && NOT_TOLD.has(error.code)) return undefined;
    throw error;
  }
}

/** The path, and when it was created: independent clusters often have the same path, each in a Keeper of its own. */
async function keeperNode(client: ClickHouseClient, path: string): Promise<string | undefined> {
  const slash = path.lastIndexOf('/');
  const nodes = await client.query({
    query: `SELECT toString(czxid) AS transaction, toString(toUnixTimestamp(ctime)) AS seconds FROM system.zookeeper
      WHERE path = {parent:String} AND name = {name:String}`,
    query_params: { parent: path.slice(0, slash) || '/', name: path.slice(slash + 1) },
    format: 'JSONEachRow',
  });
  const [node] = await nodes.json<{ transaction: string; seconds: string }>();
  return node && `replicated ${path} ${node.transaction} ${node.seconds}`;
}
