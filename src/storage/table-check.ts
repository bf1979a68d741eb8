import type { ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { wireColumns } from '../transcode/native-block.ts';
import { createStatements, DEDUPLICATION_WINDOW } from './table.ts';

/** What is not as it should be, but does not keep spans from being stored. */
export type TableWarning = string;

/**
 * Makes sure that the table is there and has every column that blocks bring: ClickHouse drops columns it does not know
 * without a word. Creates the schema first if the configuration says so.
 * @throws Error that says what is missing and what to do; or whatever ClickHouse says
 */
export async function checkTable(client: ClickHouseClient, config: Config): Promise<TableWarning[]> {
  const { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table } = config;
  if (config.CLICKHOUSE_CREATE_SCHEMA) {
    for (const query of createStatements(database, table)) await client.command({ query });
  }
  const columns = await select<{ name: string }>(client, 'SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}', { database, table });
  if (columns.length === 0) {
    throw new Error(`The table ${database}.${table} does not exist, or ${config.CLICKHOUSE_USERNAME} may not see it. Create it, or set CLICKHOUSE_CREATE_SCHEMA=true.`);
  }
  const names = new Set(columns.map(({ name }) => name));
  const missing = wireColumns.filter(({ name }) => !names.has(name)).map(({ name }) => name);
  if (missing.length > 0) throw new Error(`The table ${database}.${table} has no column ${missing.join(', ')}: what spans hold there would be lost. Add it with ALTER TABLE.`);

  const [engine] = await select<{ engine: string; engine_full: string }>(
    client,
    'SELECT engine, engine_full FROM system.tables WHERE database = {database:String} AND name = {table:String}',
    { database, table },
  );
  const needsWindow = /^(?!Replicated|Shared)\w*MergeTree$/.test(engine.engine);
  if (!needsWindow || /non_replicated_deduplication_window = [1-9]/.test(engine.engine_full)) return [];
  return [
    `The table ${database}.${table} does not recognise repeated inserts: a retry may store spans twice. Run: ` +
      `ALTER TABLE \`${database}\`.\`${table}\` MODIFY SETTING non_replicated_deduplication_window = ${DEDUPLICATION_WINDOW}`,
  ];
}

async function select<Row>(client: ClickHouseClient, query: string, params: Record<string, string>): Promise<Row[]> {
  const result = await client.query({ query, query_params: params, format: 'JSONEachRow' });
  return result.json<Row>();
}
