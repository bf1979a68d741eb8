import type { ClickHouseClient } from '@clickhouse/client';
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { createClickHouseClient } from '../storage/clickhouse.ts';
import { tableOf } from '../storage/insert.ts';
import { StorageService } from '../storage/storage.service.ts';
import { traceOf, type SpanRow, type Trace } from './trace.ts';

const TRACES = 3;
const SPANS = 1_000;

/** The last traces, read back from ClickHouse. For local mode: in production, that table is no place to look around in. */
@Injectable()
export class RecentTraces implements OnApplicationShutdown {
  traces: readonly Trace[] = [];
  private client: ClickHouseClient | undefined;
  private asking = false;
  /** Rows that were stored when ClickHouse was last asked. */
  private seenRows = -1;

  constructor(
    @Inject(collectorConfig.KEY) private readonly config: Config,
    private readonly storage: StorageService,
  ) {}

  get isOn(): boolean {
    return this.client !== undefined;
  }

  turnOn(): void {
    this.client = createClickHouseClient(this.config);
  }

  /** Asks ClickHouse if something was stored since. @returns whether there are other traces now */
  async refresh(): Promise<boolean> {
    const { insertedRows } = this.storage.stats;
    if (this.client === undefined || this.asking || insertedRows === this.seenRows) return false;
    this.asking = true;
    try {
      this.traces = await this.read(this.client);
      this.seenRows = insertedRows;
      return true;
    } catch {
      // How ClickHouse is doing stands elsewhere on the page.
      return false;
    } finally {
      this.asking = false;
    }
  }

  async onApplicationShutdown(): Promise<void> {
    await this.client?.close();
  }

  private async read(client: ClickHouseClient): Promise<Trace[]> {
    const table = tableOf(this.config);
    const result = await client.query({
      query: `
        SELECT TraceId, SpanId, ParentSpanId, SpanName, ServiceName, StatusCode, toUnixTimestamp64Nano(Timestamp) AS start, toInt64(Duration) AS duration
        FROM ${table}
        WHERE TraceId IN (SELECT TraceId FROM ${table} GROUP BY TraceId ORDER BY max(Timestamp) DESC LIMIT ${TRACES})
        ORDER BY Timestamp, SpanId
        LIMIT ${SPANS}`,
      format: 'JSONEachRow',
      clickhouse_settings: { output_format_json_quote_64bit_integers: 1, max_execution_time: 2 },
    });
    const byTrace = Map.groupBy(await result.json<SpanRow>(), ({ TraceId }) => TraceId);
    return Array.from(byTrace.values(), traceOf).sort((a, b) => b.startedAtMs - a.startedAtMs);
  }
}
