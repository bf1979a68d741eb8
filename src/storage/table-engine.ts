import type { ClickHouseClient } from '@clickhouse/client';
import type { ShardTable } from './distributed-table.ts';
import { select } from './select.ts';
import type { TableName } from './views.ts';

/** Their replicas remember tokens together. */
export const SHARES_MEMORY = /^(Replicated|Shared)/;

/** Whether tables of this engine know of their own server's inserts alone. */
export function isPlainMergeTree(engine: string): boolean {
  return engine.endsWith('MergeTree') && !SHARES_MEMORY.test(engine);
}

export type Engine = Pick<ShardTable, 'engine' | 'engineFull' | 'filled'>;

/** Of the table that the server itself has by this name. @throws what ClickHouse says */
export async function engineOf(client: ClickHouseClient, { database, table }: TableName): Promise<Engine | undefined> {
  const query =
    'SELECT engine, engine_full AS engineFull, coalesce(total_rows, 0) > 0 AS filled FROM system.tables WHERE database = {database:String} AND name = {table:String}';
  const [found] = await select<Engine>(client, query, { database, table });
  return found;
}
