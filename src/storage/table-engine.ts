import type { ClickHouseClient } from '@clickhouse/client';
import type { ShardTable } from './distributed-table.ts';
import { select } from './select.ts';
import type { TableName } from './views.ts';

/** Engines whose replicas share one deduplication log. */
export const SHARES_DEDUPLICATION_LOG = /^(Replicated|Shared)/;

/** Whether the engine is a MergeTree without replication: its deduplication log is the server's own. */
export function isPlainMergeTree(engine: string): boolean {
  return engine.endsWith('MergeTree') && !SHARES_DEDUPLICATION_LOG.test(engine);
}

/** The engine of a table, and whether the table has rows. */
export type Engine = Pick<ShardTable, 'engine' | 'engineFull' | 'filled'>;

/** The engine of a table on this server; undefined if there is no such table. @throws ClickHouseError or a network error */
export async function engineOf(client: ClickHouseClient, { database, table }: TableName): Promise<Engine | undefined> {
  const query = `SELECT engine, engine_full AS engineFull, coalesce(total_rows, 0) > 0 AS filled FROM system.tables
    WHERE database = {database:String} AND name = {table:String}`;
  const [found] = await select<Engine>(client, query, { database, table });
  return found;
}
