import type { ClickHouseClient } from '@clickhouse/client';
import { Inject, Injectable, Logger, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { Availability } from './availability.ts';
import { createClickHouseClient } from './clickhouse.ts';
import { insertBlocks, type InsertOutcome } from './insert.ts';
import { blameTable, checkTable } from './table-check.ts';

/** ClickHouse, as far as the collector needs it: whether it is there, and inserts. The collector starts and stays up without it. */
@Injectable()
export class StorageService implements OnModuleInit, OnApplicationShutdown {
  readonly availability: Availability;
  readonly stats = { inserts: 0, insertedRows: 0, insertedBytes: 0, failedInserts: 0, insertSecondsTotal: 0 };
  private readonly logger = new Logger('ClickHouse');
  private readonly client: ClickHouseClient;
  private readonly config: Config;
  private readonly warned = new Set<string>();
  private lastReason: string | undefined;

  constructor(@Inject(collectorConfig.KEY) config: Config) {
    this.config = config;
    this.client = createClickHouseClient(config);
    this.availability = new Availability(() => this.connect());
  }

  onModuleInit(): void {
    this.availability.start();
  }

  async onApplicationShutdown(): Promise<void> {
    this.availability.stop();
    await this.client.close();
  }

  /** Sends one insert, once. A failure that is worth a retry makes ClickHouse unavailable until a probe succeeds. */
  async insert(frames: readonly Buffer[], token: string, rows: number): Promise<InsertOutcome> {
    const start = performance.now();
    const outcome = await blameTable(this.client, this.config, await insertBlocks(this.client, this.config, frames, token));
    this.stats.insertSecondsTotal += (performance.now() - start) / 1000;
    if (outcome.status === 'inserted') {
      this.stats.inserts++;
      this.stats.insertedRows += rows;
      for (const frame of frames) this.stats.insertedBytes += frame.length;
      this.availability.confirmed();
      return outcome;
    }
    this.stats.failedInserts++;
    if (outcome.status === 'retry') {
      this.report(outcome.error);
      this.availability.lost(outcome.error);
    }
    return outcome;
  }

  private async connect(): Promise<void> {
    try {
      const warnings = await checkTable(this.client, this.config);
      for (const warning of warnings) {
        if (!this.warned.has(warning)) this.logger.warn(warning);
        this.warned.add(warning);
      }
    } catch (error) {
      this.report(error as Error);
      throw error;
    }
    this.logger.log({ database: this.config.CLICKHOUSE_DATABASE, table: this.config.CLICKHOUSE_TABLE, msg: 'ClickHouse is available' });
    this.lastReason = undefined;
  }

  /** Says why ClickHouse is unavailable; the same reason once. */
  private report(error: Error): void {
    const { code } = error as NodeJS.ErrnoException;
    const reason = error.message === '' ? String(code) : error.message;
    if (reason === this.lastReason) return;
    this.lastReason = reason;
    this.logger.warn({ code, reason, msg: 'ClickHouse is not available; retrying' });
  }
}
