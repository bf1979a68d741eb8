import type { ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { parseCall } from '../schema/column-type.ts';
import { DEDUPLICATION_WINDOW } from '../schema/schema.ts';
import { dialects } from '../transcode/dialect.ts';
import type { InsertOutcome } from './insert.ts';
import { compareColumns, type TableColumn } from './table-columns.ts';
import { createStatements } from './table.ts';

/** What is not as it should be, but does not keep spans from being stored. */
export type TableWarning = string;

/**
 * Makes sure that the table is there and can hold what blocks bring: ClickHouse drops columns it does not know without a
 * word, and converts others to what nobody wants. Creates the schema first if the configuration says so.
 * @throws Error that says what is wrong and how to mend it; or whatever ClickHouse says
 */
export async function checkTable(client: ClickHouseClient, config: Config): Promise<TableWarning[]> {
  const { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table } = config;
  if (config.CLICKHOUSE_CREATE_SCHEMA) {
    for (const query of createStatements(database, table)) await client.command({ query });
  }
  const columns = await select<TableColumn>(
    client,
    'SELECT name, type, default_kind AS kind FROM system.columns WHERE database = {database:String} AND table = {table:String}',
    { database, table },
  );
  if (columns.length === 0) {
    throw new Error(`The table ${database}.${table} does not exist, or ${config.CLICKHOUSE_USERNAME} may not see it. Create it (npm run schema -- apply), or set CLICKHOUSE_CREATE_SCHEMA=true.`);
  }
  const { problems, losses } = compareColumns(columns, dialects[config.ROW_DIALECT], `ALTER TABLE \`${database}\`.\`${table}\``);
  if (problems.length > 0) throw new Error(`The table ${database}.${table} ${problems.join('; and it ')}. Nothing is inserted until that is mended.`);

  const targets = [{ database, table }, ...(await viewTargets(client, database, table))];
  const warnings = await Promise.all(targets.map((target) => deduplicationWarning(client, target)));
  return [...losses.map((loss) => `The table ${database}.${table} ${loss}.`), ...warnings.filter((warning) => warning !== undefined)];
}

/** Bytes that are refused by a table which no longer fits are not to blame: they are kept until it is mended. */
export async function blameTable(client: ClickHouseClient, config: Config, outcome: InsertOutcome): Promise<InsertOutcome> {
  if (outcome.status !== 'poison') return outcome;
  try {
    await checkTable(client, config);
    return outcome;
  } catch {
    return { status: 'retry', error: outcome.error };
  }
}

interface TableName {
  readonly database: string;
  readonly table: string;
}

/** The tables that materialized views write to when rows are inserted: a repeated insert has to be recognised there too. */
async function viewTargets(client: ClickHouseClient, database: string, table: string): Promise<TableName[]> {
  const views = await select<{ database: string; name: string; uuid: string; create_table_query: string }>(
    client,
    `SELECT database, name, toString(uuid) AS uuid, create_table_query FROM system.tables
     WHERE engine = 'MaterializedView' AND (database, name) IN (
       SELECT dependency.1, dependency.2 FROM system.tables ARRAY JOIN arrayZip(dependencies_database, dependencies_table) AS dependency
       WHERE database = {database:String} AND name = {table:String})`,
    { database, table },
  );
  return views.map((view) => {
    const [, ...names] = / TO ((?:`[^`]+`|[^\s.(`]+)(?:\.(?:`[^`]+`|[^\s.(`]+))?)/.exec(view.create_table_query) ?? [];
    const [target, targetDatabase] = names.flatMap((name) => name.match(/`[^`]+`|[^.`]+/g) ?? []).map((name) => name.replaceAll('`', '')).toReversed();
    return { database: targetDatabase ?? view.database, table: target ?? `.inner_id.${view.uuid}` };
  });
}

async function deduplicationWarning(client: ClickHouseClient, { database, table }: TableName): Promise<TableWarning | undefined> {
  const [found] = await select<{ engine: string; engine_full: string }>(
    client,
    'SELECT engine, engine_full FROM system.tables WHERE database = {database:String} AND name = {table:String}',
    { database, table },
  );
  if (found?.engine === 'Distributed') return distributedWarning(client, { database, table }, found.engine_full);
  const needsWindow = found !== undefined && /^(?!Replicated|Shared)\w*MergeTree$/.test(found.engine);
  if (!needsWindow || /non_replicated_deduplication_window = [1-9]/.test(found.engine_full)) return undefined;
  return (
    `The table ${database}.${table} does not recognise repeated inserts: a retry may store spans twice. Run: ` +
    `ALTER TABLE \`${database}\`.\`${table}\` MODIFY SETTING non_replicated_deduplication_window = ${DEDUPLICATION_WINDOW}`
  );
}

/** A repeated insert is recognised on the shards, if its rows go to the same ones again. */
async function distributedWarning(client: ClickHouseClient, { database, table }: TableName, engine: string): Promise<TableWarning | undefined> {
  const [, localDatabase, localTable, shardBy = ''] = parseCall(engine).args.map((arg) => arg.replaceAll("'", ''));
  if (/\brand/.test(shardBy)) return `The table ${database}.${table} sends each row to a shard by chance (${shardBy}): a retry may store spans twice. Shard by cityHash64(TraceId).`;
  return deduplicationWarning(client, { database: localDatabase, table: localTable });
}

async function select<Row>(client: ClickHouseClient, query: string, params: Record<string, string>): Promise<Row[]> {
  const result = await client.query({ query, query_params: params, format: 'JSONEachRow' });
  return result.json<Row>();
}
