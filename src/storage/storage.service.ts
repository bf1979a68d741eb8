import { isDeepStrictEqual } from 'node:util';
import { Inject, Injectable, Logger, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { Histogram, SECONDS } from '../telemetry/histogram.ts';
import { RepeatedLine } from '../telemetry/repeated-line.ts';
import type { Endpoint } from './endpoint.ts';
import { Endpoints } from './endpoints.ts';
import type { InsertOutcome } from './insert.ts';
import { InsertRate } from './insert-rate.ts';
import { NO_LIMITS, type TableLimits } from '../transcode/columns/table-limits.ts';

/** Buckets of the histogram of rows per insert. */
const INSERT_ROWS = [10, 100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/** Inserts into ClickHouse, its availability, and counts of both. The collector starts and keeps running without ClickHouse. */
@Injectable()
export class StorageService implements OnModuleInit, OnApplicationShutdown {
  readonly availability: Endpoints;
  readonly stats = { inserts: 0, insertedRows: 0, insertedBytes: 0, failedInserts: 0, restoredRows: 0 };
  /** The last insert that failed; `atMs` is a Unix time. */
  lastError: { readonly message: string; readonly atMs: number } | undefined;
  /** The limits of the tables of all servers, as far as known. Replaced by another object when they change. */
  limits: TableLimits = NO_LIMITS;
  /** Duration of every insert, failed ones included. */
  readonly insertSeconds = new Histogram(SECONDS);
  readonly insertRows = new Histogram(INSERT_ROWS);
  readonly insertRate = new InsertRate();
  private readonly logger = new Logger('ClickHouse');
  private readonly unsearchable = new RepeatedLine(this.logger, 'warn', "Can't check whether ClickHouse lost a repeated insert");
  private readonly warned = new Set<string>();
  /** The last logged reason of unavailability, by server name. */
  private readonly lastReasons = new Map<string, string>();

  constructor(@Inject(collectorConfig.KEY) private readonly config: Config) {
    this.availability = new Endpoints(config, {
      available: (endpoint, warnings) => this.reportAvailable(endpoint, warnings),
      unavailable: (endpoint, error) => this.reportUnavailable(endpoint, error),
      restored: (endpoint, rows) => this.reportRestored(endpoint, rows),
      unsearchable: (endpoint, reason) => this.unsearchable.write({ server: endpoint.name, reason }),
      checked: () => this.updateLimits(),
    });
  }

  onModuleInit(): void {
    this.availability.start();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.availability.close();
  }

  /**
   * Sends one insert, once, and counts the outcome. Never rejects.
   * @param endpoint from `availability.ready`
   * @param sentBefore whether the insert may be stored already
   */
  async insert(endpoint: Endpoint, frames: readonly Buffer[], token: string, rows: number, sentBefore: boolean): Promise<InsertOutcome> {
    const start = performance.now();
    const outcome = await endpoint.insert(frames, token, sentBefore);
    this.insertSeconds.observe((performance.now() - start) / 1000);
    if (outcome.status === 'inserted') {
      this.stats.inserts++;
      this.stats.insertedRows += rows;
      this.insertRows.observe(rows);
      this.insertRate.inserted(rows);
      for (const frame of frames) this.stats.insertedBytes += frame.length;
    } else {
      this.stats.failedInserts++;
      this.lastError = { message: outcome.error.message, atMs: Date.now() };
    }
    return outcome;
  }

  /**
   * Counts rows of an abandoned insert as stored: those that ClickHouse had written when the insert failed.
   * @param rows the result of `Endpoint.countStored`
   */
  countStoredRows(rows: number): void {
    this.stats.insertedRows += rows;
  }

  /** The state of ClickHouse for the health endpoint, with that of each server if there are several. */
  describe(): object {
    const { all, status } = this.availability;
    if (all.length === 1) return status;
    return { ...status, servers: Object.fromEntries(all.map(({ name, availability }) => [name, availability.status])) };
  }

  private updateLimits(): void {
    const { limits } = this.availability;
    if (!isDeepStrictEqual(limits, this.limits)) this.limits = limits;
  }

  private reportAvailable({ name, limits: { maxRowAgeMs } }: Endpoint, warnings: readonly string[]): void {
    for (const warning of warnings) {
      if (!this.warned.has(warning)) this.logger.warn(warning);
      this.warned.add(warning);
    }
    const { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table, SPAN_MAX_AGE_DAYS: spanMaxAgeDays } = this.config;
    const ttl = maxRowAgeMs === Number.POSITIVE_INFINITY ? {} : { ttlDays: Math.round(maxRowAgeMs / 8_640_000) / 10, spanMaxAgeDays };
    this.logger.log({ server: name, database, table, ...ttl, msg: 'ClickHouse is available' });
    this.lastReasons.delete(name);
  }

  private reportRestored({ name }: Endpoint, rows: number): void {
    this.stats.restoredRows += rows;
    this.logger.warn({ server: name, rows, msg: 'ClickHouse lost rows that it had reported as stored; they are inserted again' });
  }

  /** Logs why a server is unavailable; the same reason only once in a row. */
  private reportUnavailable({ name }: Endpoint, error: Error): void {
    const { code } = error as NodeJS.ErrnoException;
    const reason = error.message === '' ? String(code) : error.message;
    if (reason === this.lastReasons.get(name)) return;
    this.lastReasons.set(name, reason);
    this.logger.warn({ server: name, code, reason, msg: 'ClickHouse is not available; retrying' });
  }
}
