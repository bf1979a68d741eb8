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
import { select } from './select.ts';
import { engineOf, isPlainMergeTree } from './table-engine.ts';

/*
 * A MergeTree that is not Replicated writes an insert's token to its log, and then gives the insert's part its name
 * (MergeTreeSink::commitPart in ClickHouse's sources). Killed between the two, it takes the insert for stored when it comes
 * again, answers 200, and has none of its rows. So what may have been sent before is looked for after such a 200.
 *
 * The rows go to ClickHouse with the question, as the temporary table `sent`.
 */

/** Parameters of the URL, as settings are. */
const SENT_TABLE: Readonly<Record<string, string>> = {
  sent_format: 'Native',
  sent_structure: wireColumns.map(({ name, type }) => `${quote(name)} ${type}`).join(', '),
};

const BOUNDARY = 'hive-otel-collector-rows';

/**
 * Rows of other times would look lost where they are not. Keys and partitions hold times as a Date or a DateTime, which begin
 * anew after 2149 and 2106: ClickHouse then takes a part for one of another time, and leaves it out.
 */
const SEARCHABLE = "Timestamp BETWEEN toDateTime64('1971-01-01 00:00:00', 9, 'UTC') AND toDateTime64('2100-01-01 00:00:00', 9, 'UTC')";

/** Whatever the user's profile says: a part of the answer, or of the table, is no answer. */
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

/** Of the rows of an insert that can be looked for. */
export interface RowCount {
  readonly rows: number;
  /** Those that the table does not have. */
  readonly lost: number;
  /** Whether the user is shown none of the table's rows, though it has some. */
  readonly blind: boolean;
}

/** Looks for the rows of an insert. Undefined where ClickHouse can't have lost any. @throws what ClickHouse says */
export async function countLost(
  client: ClickHouseClient,
  config: Config,
  frames: readonly Buffer[],
  newer: ClickHouseSettings = {},
): Promise<RowCount | undefined> {
  const tables = await forgetfulTables(client, config);
  if (tables.length === 0) return undefined;
  // ClickHouse knows it without reading, but for users with a row policy. LIMIT 1 would have it cut off its shards.
  const anyShown = `(SELECT toUInt8(count() > 0) FROM ${tableOf(config)})`;
  const isLost = await lostCondition(client, config);
  const answer = await client.exec({
    query: `SELECT toUInt32(count()) AS rows, toUInt32(countIf(${isLost})) AS lost, ${anyShown} AS shown FROM sent WHERE ${SEARCHABLE} FORMAT JSONEachRow`,
    ...formOf(frames),
    clickhouse_settings: { ...WHOLE_ANSWER, ...SENT_TABLE, ...newer, max_execution_time: config.CLICKHOUSE_TIMEOUT_MS / 1000 },
  });
  const { rows, lost, shown }: { rows: number; lost: number; shown: number } = JSON.parse(await text(answer.stream));
  return { rows, lost, blind: shown === 0 && tables.some(({ filled }) => filled === 1) };
}

/** How many rows of an insert the table has, whoever remembers its token. @throws what ClickHouse says */
export async function countStored(
  client: ClickHouseClient,
  config: Config,
  frames: readonly Buffer[],
  newer: ClickHouseSettings = {},
): Promise<number> {
  const answer = await client.exec({
    query: `SELECT toUInt32(countIf(NOT ${await lostCondition(client, config)})) AS stored FROM sent WHERE ${SEARCHABLE} FORMAT JSONEachRow`,
    ...formOf(frames),
    clickhouse_settings: { ...WHOLE_ANSWER, ...SENT_TABLE, ...newer, max_execution_time: config.CLICKHOUSE_TIMEOUT_MS / 1000 },
  });
  const { stored }: { stored: number } = JSON.parse(await text(answer.stream));
  return stored;
}

/** Inserts those rows of an insert that the table does not have. @throws what ClickHouse says of the table */
export async function insertLost(
  client: ClickHouseClient,
  config: Config,
  frames: readonly Buffer[],
  token: string,
  options: InsertOptions,
): Promise<InsertOutcome> {
  return sendInsert(client, config, token, options, {
    query: `${insertTarget(config)} (${INSERT_COLUMNS}) SELECT ${INSERT_COLUMNS} FROM sent WHERE ${SEARCHABLE} AND ${await lostCondition(client, config)}`,
    ...formOf(frames),
    clickhouse_settings: { ...WHOLE_ANSWER, ...SENT_TABLE },
  });
}

/**
 * The tables that hold the rows, if they may have forgotten some: none of them Replicated, and each of one server alone, as of
 * replicas one may not have yet what another was sent.
 */
async function forgetfulTables(
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

/** The condition for a row of `sent`, by what it is known by as the table has it: its columns may be of other types than those sent. */
async function lostCondition(client: ClickHouseClient, config: Config): Promise<string> {
  const { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table } = config;
  const columns = await select<{ name: string; type: string }>(
    client,
    'SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}',
    { database, table },
  );
  const types = new Map(columns.map(({ name, type }) => [name, type]));
  const [timestamp, traceId, spanId] = ['Timestamp', 'TraceId', 'SpanId'].map((name) => `CAST(${name}, ${quoteText(types.get(name)!)})`);
  // The days apart: one row of last year must not have a year searched.
  return `(${timestamp}, ${traceId}, ${spanId}) NOT IN (
    SELECT Timestamp, TraceId, SpanId FROM ${tableOf(config)}
    WHERE toDate32(Timestamp) IN (SELECT toDate32(${timestamp}) FROM sent WHERE ${SEARCHABLE})
      AND Timestamp >= (SELECT min(${timestamp}) FROM sent WHERE ${SEARCHABLE})
      AND Timestamp <= (SELECT max(${timestamp}) FROM sent WHERE ${SEARCHABLE})
      AND TraceId IN (SELECT ${traceId} FROM sent))`;
}

/** Rows that come with a query are a file of a form, as in a browser's; ClickHouse takes no compressed forms. */
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
