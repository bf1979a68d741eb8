import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import { type ClickHouseClient, type ClickHouseSettings, SettingsMap } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { quote, quoteText } from '../schema/schema.ts';
import { wireColumns } from '../transcode/columns/native-block.ts';
import { clusterServers, distributedTable, type ShardTable, shardTables } from './distributed-table.ts';
import { INSERT_COLUMNS, insertTarget, sendInsert, tableOf, type InsertOptions, type InsertOutcome } from './insert.ts';
import { columnsOf } from './table-columns.ts';
import { engineOf, isPlainMergeTree } from './table-engine.ts';

/*
 * A MergeTree table that is not Replicated writes an insert's token to its deduplication log before it commits the insert's part
 * (MergeTreeSink::commitPart in ClickHouse's sources). A server that is killed between the two answers a retry with 200, as a
 * duplicate, although it has none of the rows. So after a 200 for an insert that may have been sent before, its rows are searched for.
 *
 * The rows are sent along with the query, as the external table `sent`.
 */

/** Describes the external table `sent`. Like settings, these are parameters of the URL. */
const SENT_TABLE: Readonly<Record<string, string>> = {
  sent_format: 'Native',
  sent_structure: wireColumns.map(({ name, type }) => `${quote(name)} ${type}`).join(', '),
};

const BOUNDARY = 'hive-otel-collector-rows';

/**
 * The rows that can be searched for. Others could look lost although they are not: keys and partitions hold times as Date or DateTime,
 * which overflow after 2149 and 2106, and ClickHouse then skips the part that has the row.
 */
const SEARCHABLE = "Timestamp BETWEEN toDateTime64('1971-01-01 00:00:00', 9, 'UTC') AND toDateTime64('2100-01-01 00:00:00', 9, 'UTC')";

/** Overrides the user's settings profile: a truncated result, or one over a part of the table, must not count. */
const WHOLE_ANSWER: ClickHouseSettings = {
  additional_table_filters: SettingsMap.from({}),
  limit: '0',
  offset: '0',
  read_overflow_mode: 'throw',
  read_overflow_mode_leaf: 'throw',
  set_overflow_mode: 'throw',
  result_overflow_mode: 'throw',
  transfer_overflow_mode: 'throw',
  timeout_overflow_mode: 'throw',
  skip_unavailable_shards: 0,
  wait_end_of_query: 1,
};

const decompress = promisify(zstdDecompress);

/** The result of a search for the rows of an insert. */
export interface RowCount {
  /** Rows that can be searched for. */
  readonly rows: number;
  /** Those of them that are not in the table. */
  readonly lost: number;
  /** Whether the user may see none of the table's rows, although it has some. */
  readonly blind: boolean;
}

/**
 * Searches for the rows of an insert.
 * @returns undefined if the table's engine can't lose rows in this way
 * @throws ClickHouseError or a network error
 */
export async function countLost(
  client: ClickHouseClient,
  config: Config,
  frames: readonly Buffer[],
  newer: ClickHouseSettings = {},
): Promise<RowCount | undefined> {
  const tables = await unreplicatedTables(client, config);
  if (tables.length === 0) return undefined;
  // count() needs no reading, except for users with a row policy. LIMIT 1 would cancel the queries on other shards.
  const anyShown = `(SELECT toUInt8(count() > 0) FROM ${tableOf(config)})`;
  const isLost = await lostCondition(client, config);
  const answer = await client.exec({
    query: `SELECT toUInt32(count()) AS rows, toUInt32(countIf(${isLost})) AS lost, ${anyShown} AS shown
      FROM sent WHERE ${SEARCHABLE} FORMAT JSONEachRow`,
    ...formOf(frames),
    clickhouse_settings: { ...WHOLE_ANSWER, ...SENT_TABLE, ...newer, max_execution_time: config.CLICKHOUSE_TIMEOUT_MS / 1000 },
  });
  const { rows, lost, shown }: { rows: number; lost: number; shown: number } = JSON.parse(await text(answer.stream));
  return { rows, lost, blind: shown === 0 && tables.some(({ filled }) => filled === 1) };
}

/** The number of rows of an insert that are in the table, whatever its engine. @throws ClickHouseError or a network error */
export async function countStored(
  client: ClickHouseClient,
  config: Config,
  frames: readonly Buffer[],
  newer: ClickHouseSettings = {},
): Promise<number> {
  const answer = await client.exec({
    query: `SELECT toUInt32(countIf(NOT ${await lostCondition(client, config)})) AS stored
      FROM sent WHERE ${SEARCHABLE} FORMAT JSONEachRow`,
    ...formOf(frames),
    clickhouse_settings: { ...WHOLE_ANSWER, ...SENT_TABLE, ...newer, max_execution_time: config.CLICKHOUSE_TIMEOUT_MS / 1000 },
  });
  const { stored }: { stored: number } = JSON.parse(await text(answer.stream));
  return stored;
}

/** Inserts those rows of an insert that are not in the table. @throws ClickHouseError when the table's columns can't be read */
export async function insertLost(
  client: ClickHouseClient,
  config: Config,
  frames: readonly Buffer[],
  token: string,
  options: InsertOptions,
): Promise<InsertOutcome> {
  return sendInsert(client, config, token, options, {
    query: `${insertTarget(config)} (${INSERT_COLUMNS}) SELECT ${INSERT_COLUMNS} FROM sent
      WHERE ${SEARCHABLE} AND ${await lostCondition(client, config)}`,
    ...formOf(frames),
    clickhouse_settings: { ...WHOLE_ANSWER, ...SENT_TABLE },
  });
}

/**
 * The tables that hold the rows, if they can lose rows in this way: none of them is Replicated, and each shard has one server. With
 * several replicas the search could not tell lost rows from rows that one replica does not have yet.
 */
async function unreplicatedTables(
  client: ClickHouseClient,
  { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config,
): Promise<readonly Pick<ShardTable, 'filled'>[]> {
  const found = await engineOf(client, { database, table });
  if (found?.engine !== 'Distributed') return found !== undefined && isPlainMergeTree(found.engine) ? [found] : [];
  const distributed = distributedTable(found.engineFull);
  const servers = await clusterServers(client, distributed);
  if (servers.length === 0 || new Set(servers.map(({ shard }) => shard)).size < servers.length) return [];
  const tables = await shardTables(client, distributed);
  if (tables.length < servers.length) throw new Error(`Not all shards of ${distributed.cluster} answer`);
  return tables.every(({ engine }) => isPlainMergeTree(engine)) ? tables : [];
}

/** The SQL condition that a row of `sent` is not in the table. The identifying columns are converted to the table's types. */
async function lostCondition(client: ClickHouseClient, config: Config): Promise<string> {
  const columns = await columnsOf(client, { database: config.CLICKHOUSE_DATABASE, table: config.CLICKHOUSE_TABLE });
  const types = new Map(columns.map(({ name, type }) => [name, type]));
  const [timestamp, traceId, spanId] = ['Timestamp', 'TraceId', 'SpanId'].map((name) => `CAST(${name}, ${quoteText(types.get(name)!)})`);
  // Each day by itself: because of one row of last year, a whole year must not be searched.
  return `(${timestamp}, ${traceId}, ${spanId}) NOT IN (
    SELECT Timestamp, TraceId, SpanId FROM ${tableOf(config)}
    WHERE toDate32(Timestamp) IN (SELECT toDate32(${timestamp}) FROM sent WHERE ${SEARCHABLE})
      AND Timestamp >= (SELECT min(${timestamp}) FROM sent WHERE ${SEARCHABLE})
      AND Timestamp <= (SELECT max(${timestamp}) FROM sent WHERE ${SEARCHABLE})
      AND TraceId IN (SELECT ${traceId} FROM sent))`;
}

/** The rows as an external table: a file of a multipart form, uncompressed, as ClickHouse reads no compressed forms. */
function formOf(frames: readonly Buffer[]) {
  return {
    values: Readable.from(partsOf(frames), { objectMode: false }),
    http_headers: { 'Content-Type': `multipart/form-data; boundary=${BOUNDARY}` },
  };
}

async function* partsOf(frames: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield Buffer.from(
    `--${BOUNDARY}\r\nContent-Disposition: form-data; name="sent"; filename="sent"\r\nContent-Type: application/octet-stream\r\n\r\n`,
  );
  for (const frame of frames) yield decompress(frame);
  yield Buffer.from(`\r\n--${BOUNDARY}--\r\n`);
}
