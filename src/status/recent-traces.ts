import type { ClickHouseClient } from '@clickhouse/client';
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { createClickHouseClient } from '../storage/clickhouse.ts';
import { tableOf } from '../storage/insert.ts';
import { StorageService } from '../storage/storage.service.ts';
import {
  detailsOf,
  listOf,
  traceOf,
  type DetailsRow,
  type ListRow,
  type SpanDetails,
  type SpanRow,
  type Trace,
  type TraceList,
} from './trace.ts';

/** Most traces in each list of the page: the newest, the newest failed and the slowest. */
const TRACES = 15;
/** Most spans of one trace. */
const SPANS = 1_000;
/** Longest share of the time that queries for the list take while spans keep coming. */
const MAX_SHARE = 0.1;

/** Reads the traces of the last 15 minutes from ClickHouse. In local mode only: in production, the table holds data of many targets. */
@Injectable()
export class RecentTraces implements OnApplicationShutdown {
  list: TraceList = { total: 0, failed: 0, isOld: false, traces: [] };
  private client: ClickHouseClient | undefined;
  private asking = false;
  /** The number of stored rows at the last query. */
  private seenRows = -1;
  private nextAtMs = 0;

  constructor(
    @Inject(collectorConfig.KEY) private readonly config: Config,
    private readonly storage: StorageService,
  ) {}

  get isOn(): boolean {
    return this.client !== undefined;
  }

  /** Connects to ClickHouse: until then, no traces are read. */
  turnOn(): void {
    this.client = createClickHouseClient(this.config);
  }

  /** Updates the list if rows were stored since the last query. @returns whether the list has changed */
  async refresh(): Promise<boolean> {
    const { insertedRows } = this.storage.stats;
    if (!this.isOn || this.asking || insertedRows === this.seenRows || performance.now() < this.nextAtMs) return false;
    this.asking = true;
    const startedAtMs = performance.now();
    try {
      const [row] = await this.query<ListRow>(this.listQuery());
      this.list = listOf(row);
      this.seenRows = insertedRows;
    } catch {
      // The page shows the state of ClickHouse among the components.
      this.list = { ...this.list, isOld: true };
    } finally {
      this.asking = false;
      this.nextAtMs = performance.now() + (performance.now() - startedAtMs) / MAX_SHARE;
    }
    return true;
  }

  /** Reads the first spans of a trace; undefined if there are none. @throws Error of the ClickHouse client */
  async trace(traceId: string): Promise<Trace | undefined> {
    const rows = await this.query<SpanRow>(
      `SELECT TraceId, SpanId, ParentSpanId, SpanName, ServiceName, StatusCode,
        toUnixTimestamp64Nano(Timestamp) AS start, toInt64(Duration) AS duration
      FROM ${tableOf(this.config)}
      WHERE TraceId = {traceId:String}
      ORDER BY Timestamp, SpanId
      LIMIT ${SPANS}`,
      { traceId },
    );
    return rows.length === 0 ? undefined : traceOf(rows);
  }

  /** Reads the details of a span; undefined if there is no such span. @throws Error of the ClickHouse client */
  async span(traceId: string, spanId: string): Promise<SpanDetails | undefined> {
    const [row] = await this.query<DetailsRow>(
      `SELECT SpanKind, StatusCode, StatusMessage, ScopeName, ScopeVersion, SpanAttributes, ResourceAttributes, Events.Name AS eventNames,
        arrayMap(time -> toUnixTimestamp64Nano(time) - toUnixTimestamp64Nano(Timestamp), Events.Timestamp) AS eventTimes,
        Events.Attributes AS eventAttributes
      FROM ${tableOf(this.config)}
      WHERE TraceId = {traceId:String} AND SpanId = {spanId:String}
      LIMIT 1`,
      { traceId, spanId },
    );
    return row && detailsOf(row);
  }

  async onApplicationShutdown(): Promise<void> {
    await this.client?.close();
  }

  /** The 15 minutes end now, or with the newest span if that is older: older data is shown, too. */
  private listQuery(): string {
    const table = tableOf(this.config);
    const trace = 'traceId, root.1, root.2, start, duration, spans, failedSpans';
    return `
      SELECT count() AS total, countIf(failedSpans > 0) AS failed,
        groupArraySorted(${TRACES})((-start, ${trace})) AS newest,
        groupArraySortedIf(${TRACES})((-start, ${trace}), failedSpans > 0) AS newestFailed,
        groupArraySorted(${TRACES})((-duration, ${trace})) AS slowest
      FROM (
        SELECT TraceId AS traceId, argMin((SpanName, ServiceName), (ParentSpanId != '', Timestamp)) AS root,
          min(toUnixTimestamp64Nano(Timestamp)) AS start, max(toUnixTimestamp64Nano(Timestamp) + toInt64(Duration)) - start AS duration,
          count() AS spans, countIf(StatusCode ILIKE '%error') AS failedSpans
        FROM ${table}
        WHERE Timestamp >= (SELECT least(max(Timestamp), now64(9)) FROM ${table}) - INTERVAL 15 MINUTE
        GROUP BY TraceId
      )`;
  }

  private async query<Row>(query: string, values: Record<string, string> = {}): Promise<Row[]> {
    const result = await this.client!.query({
      query,
      query_params: values,
      format: 'JSONEachRow',
      clickhouse_settings: {
        output_format_json_quote_64bit_integers: 1,
        output_format_json_named_tuples_as_objects: 0,
        max_execution_time: 5,
      },
    });
    return result.json<Row>();
  }
}
