import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import { type ClickHouseClient, type ClickHouseSettings, SettingsMap } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { wireColumns } from '../transcode/native-block.ts';
import { clusterServers, distributedTable, shardTables } from './distributed-table.ts';
import { insertTarget, sendInsert, type InsertOptions, type InsertOutcome } from './insert.ts';
import { select } from './select.ts';
import { isPlainMergeTree } from './table-check.ts';

/*
 * A MergeTree that is not Replicated writes an insert's token to its log, and then gives the insert's part its name
 * (MergeTreeSink::commitPart in ClickHouse's sources). Killed between the two, it takes the insert for stored when it comes
 * again, answers 200, and has none of its rows. So what may have been sent before is looked for after such a 200.
 *
 * The rows go to ClickHouse with the question, as the temporary table `sent`.
 */

const COLUMNS = wireColumns.map(({ name }) => `\`${name}\``).join(', ');

/** Parameters of the URL, as settings are. */
const SENT_TABLE: Readonly<Record<string, string>> = { sent_format: 'Native', sent_structure: wireColumns.map(({ name, type }) => `\`${name}\` ${type}`).join(', ') };

const BOUNDARY = 'hive-otel-collector-rows';

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

/** Rows of an insert, and how many of them the table does not have. */
export interface RowCount {
  readonly rows: number;
  readonly lost: number;
}

/** Looks for the rows of an insert. Undefined where ClickHouse can't have lost any. @throws what ClickHouse says */
export async function countLost(client: ClickHouseClient, config: Config, frames: readonly Buffer[]): Promise<RowCount | undefined> {
  if (!(await mayForget(client, config))) return undefined;
  const answer = await client.exec({
    query: `SELECT toUInt32(count()) AS rows, toUInt32(countIf(${await isLost(client, config)})) AS lost FROM sent FORMAT JSONEachRow`,
    ...formOf(frames),
    clickhouse_settings: { ...WHOLE_ANSWER, ...SENT_TABLE, max_execution_time: config.CLICKHOUSE_TIMEOUT_MS / 1000 },
  });
  return JSON.parse(await text(answer.stream));
}

/** Inserts those rows of an insert that the table does not have. @throws what ClickHouse says of the table */
export async function insertLost(client: ClickHouseClient, config: Config, frames: readonly Buffer[], token: string, options: InsertOptions): Promise<InsertOutcome> {
  return sendInsert(client, config, token, options, {
    query: `${insertTarget(config)} (${COLUMNS}) SELECT ${COLUMNS} FROM sent WHERE ${await isLost(client, config)}`,
    ...formOf(frames),
    clickhouse_settings: { ...WHOLE_ANSWER, ...SENT_TABLE },
  });
}

/** Only such tables forget, and only those of one server each can be asked: of replicas, one may not have yet what another was sent. */
async function mayForget(client: ClickHouseClient, { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config): Promise<boolean> {
  const [found] = await select<{ engine: string; engineFull: string }>(
    client,
    'SELECT engine, engine_full AS engineFull FROM system.tables WHERE database = {database:String} AND name = {table:String}',
    { database, table },
  );
  if (found?.engine !== 'Distributed') return found !== undefined && isPlainMergeTree(found.engine);
  const distributed = distributedTable(found.engineFull);
  const servers = await clusterServers(client, distributed);
  if (servers.length === 0 || new Set(servers.map(({ shard }) => shard)).size < servers.length) return false;
  const tables = await shardTables(client, distributed);
  if (tables.length < servers.length) throw new Error(`Not all shards of ${distributed.cluster} answer`);
  return tables.every(({ engine }) => isPlainMergeTree(engine));
}

/** The condition for a row of `sent`, by what it is known by as the table has it: its columns may be of other types than those sent. */
async function isLost(client: ClickHouseClient, { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config): Promise<string> {
  const columns = await select<{ name: string; type: string }>(client, 'SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}', { database, table });
  const types = new Map(columns.map(({ name, type }) => [name, type]));
  const [timestamp, traceId, spanId] = ['Timestamp', 'TraceId', 'SpanId'].map((name) => `CAST(${name}, '${types.get(name)!.replaceAll("'", "\\'")}')`);
  return `(${timestamp}, ${traceId}, ${spanId}) NOT IN (
    SELECT Timestamp, TraceId, SpanId FROM \`${database}\`.\`${table}\`
    WHERE Timestamp >= (SELECT min(${timestamp}) FROM sent) AND Timestamp <= (SELECT max(${timestamp}) FROM sent)
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
  yield Buffer.from(`--${BOUNDARY}\r\nContent-Disposition: form-data; name="sent"; filename="sent"\r\nContent-Type: application/octet-stream\r\n\r\n`);
  for (const frame of frames) yield decompress(frame);
  yield Buffer.from(`\r\n--${BOUNDARY}--\r\n`);
}
