import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { parseCall } from '../schema/column-type.ts';
import type { TableLimits } from '../transcode/columns/table-limits.ts';
import { ATTRIBUTES_COLUMNS, type AttributesColumnName } from '../transcode/columns/transcode-rules.ts';
import { distributedTable, shardTables } from './distributed-table.ts';
import { select } from './select.ts';
import type { TableColumn } from './table-columns.ts';
import { engineOf } from './table-engine.ts';
import { findMaxRowAge } from './time-to-live.ts';

/**
 * Reads the limits of the configured table and, for a Distributed one, of the local tables on its shards.
 * @param last the previous limits, kept where the current ones can't be read
 * @param isNew whether the server was unavailable before: only then the other servers of a cluster are queried
 * @throws ClickHouseError or a network error
 */
export async function tableLimits(client: ClickHouseClient, config: Config, last: TableLimits, isNew: boolean): Promise<TableLimits> {
  const maxRowAgeMs = (await findMaxRowAge(client, config, isNew)) ?? last.maxRowAgeMs;
  return { textColumns: (await findTextColumns(client, config, isNew)) ?? last.textColumns, maxRowAgeMs };
}

/** Reads `TableLimits.textColumns`; undefined if they can't be determined. @throws ClickHouseError or a network error */
export async function findTextColumns(
  client: ClickHouseClient,
  config: Config,
  isNew: boolean,
): Promise<readonly AttributesColumnName[] | undefined> {
  const { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table } = config;
  const engine = await engineOf(client, { database, table });
  const isDistributed = engine?.engine === 'Distributed';
  if (isDistributed && !isNew) return undefined;
  const query = `SELECT name, type, default_kind AS kind FROM system.columns
    WHERE database = {database:String} AND table = {table:String} AND name LIKE {like:String}`;
  const columns = await select<TableColumn>(client, query, { database, table, like: '%Attributes' });
  const behind = isDistributed ? await shardColumns(client, engine.engineFull) : [];
  return ATTRIBUTES_COLUMNS.filter((name) => [...columns, ...behind].some((column) => column.name === name && isJson(column.type)));
}

/** The columns of the local tables; none if the cluster's servers can't be queried, as inserts must not wait for that. */
async function shardColumns(client: ClickHouseClient, engineFull: string): Promise<TableColumn[]> {
  try {
    return (await shardTables(client, distributedTable(engineFull))).flatMap(({ columns }) => columns);
  } catch (error) {
    if (!(error instanceof ClickHouseError)) throw error;
    return [];
  }
}

function isJson(type: string): boolean {
  const { name, args } = parseCall(type);
  return name === 'JSON' || (['Array', 'Nullable'].includes(name) && isJson(args[0]));
}
