import type { ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { parseCall } from '../schema/column-type.ts';
import type { TableLimits } from '../transcode/columns/table-limits.ts';
import { ATTRIBUTES_COLUMNS, type AttributesColumnName } from '../transcode/columns/transcode-rules.ts';
import { distributedTable, shardTablesIfQueryable } from './distributed-table.ts';
import { columnsOf } from './table-columns.ts';
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
  const table = { database: config.CLICKHOUSE_DATABASE, table: config.CLICKHOUSE_TABLE };
  const engine = await engineOf(client, table);
  const isDistributed = engine?.engine === 'Distributed';
  if (isDistributed && !isNew) return undefined;
  const local = isDistributed ? await shardTablesIfQueryable(client, distributedTable(engine.engineFull)) : [];
  const columns = [...(await columnsOf(client, table)), ...local.flatMap((shard) => shard.columns)];
  return ATTRIBUTES_COLUMNS.filter((name) => columns.some((column) => column.name === name && isJson(column.type)));
}

function isJson(type: string): boolean {
  const { name, args } = parseCall(type);
  return name === 'JSON' || (['Array', 'Nullable'].includes(name) && isJson(args[0]));
}
