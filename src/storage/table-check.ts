import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { DEDUPLICATION_WINDOW } from '../schema/schema.ts';
import { dialects } from '../transcode/dialect.ts';
import { clusterServers, distributedTable, shardTables, type DistributedTable, type ShardTable } from './distributed-table.ts';
import type { InsertOutcome } from './insert.ts';
import { select } from './select.ts';
import { compareColumns, type TableColumn } from './table-columns.ts';
import { createStatements } from './table.ts';

/** Their replicas remember tokens together. */
const SHARES_MEMORY = /^(Replicated|Shared)/;

/** What is not as it should be, but does not keep spans from being stored. */
export type TableWarning = string;

/**
 * Makes sure that the table is there and can hold what blocks bring: ClickHouse converts to what nobody wants without a word.
 * @param isNew whether the server was not there the last time: then the schema is created, if the configuration says so, and
 *   the tables behind a Distributed one are looked at as well, on every server of the cluster
 * @throws Error that says what is wrong and how to mend it; or whatever ClickHouse says
 */
export async function checkTable(client: ClickHouseClient, config: Config, isNew = true): Promise<TableWarning[]> {
  const { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table } = config;
  if (isNew && config.CLICKHOUSE_CREATE_SCHEMA) {
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
  const name = { database, table };
  const warnings = fitWarnings(config, name, columns);
  const engine = await engineOf(client, name);
  if (engine?.engine === 'Distributed') {
    const distributed = distributedTable(engine.engineFull);
    if (isNew) warnings.push(...(await shardWarnings(client, config, distributed)));
    warnings.push(...(await viewWarnings(client, distributed)));
  }
  warnings.push(...windowWarning(name, engine), ...(await viewWarnings(client, name)));
  return warnings;
}

/** @param where the server, if it is not the one that is asked */
function fitWarnings(config: Config, { database, table }: TableName, columns: readonly TableColumn[], where = ''): TableWarning[] {
  const { problems, losses } = compareColumns(columns, dialects[config.ROW_DIALECT], `ALTER TABLE \`${database}\`.\`${table}\``);
  if (problems.length > 0) throw new Error(`The table ${database}.${table}${where} ${problems.join('; and it ')}. Nothing is inserted until that is mended.`);
  return losses.map((loss) => `The table ${database}.${table}${where} ${loss}.`);
}

/** The tables that a Distributed one sends its rows to have to fit as well. What can't be asked is no reason to keep spans waiting. */
async function shardWarnings(client: ClickHouseClient, config: Config, distributed: DistributedTable): Promise<TableWarning[]> {
  const tables = `${distributed.database}.${distributed.table} on the shards of ${distributed.cluster}`;
  let shards: readonly ShardTable[];
  let separate: boolean;
  try {
    shards = await shardTables(client, distributed);
    separate = await hasSeparateReplicas(client, distributed, shards);
  } catch (error) {
    if (!(error instanceof ClickHouseError)) throw error;
    return [...windowWarning(distributed, await engineOf(client, distributed)), `The tables ${tables} are not checked: ${error.message}`];
  }
  const warnings: TableWarning[] = [];
  for (const shard of shards) {
    const where = ` (${shard.server})`;
    warnings.push(...fitWarnings(config, distributed, shard.columns, where), ...windowWarning(distributed, shard, where));
  }
  if (!separate) return warnings;
  return [...warnings, `The tables ${tables} are not Replicated, and an insert goes to one replica of a shard only (internal_replication): a retry may go to another, and be stored twice.`];
}

/** Whether a shard has replicas that know nothing of each other, and gets its rows through any of them. */
async function hasSeparateReplicas(client: ClickHouseClient, distributed: DistributedTable, shards: readonly ShardTable[]): Promise<boolean> {
  if (shards.every(({ engine }) => SHARES_MEMORY.test(engine))) return false;
  const servers = await clusterServers(client, distributed);
  return [...Map.groupBy(servers, ({ shard }) => shard).values()].some((replicas) => replicas.length > 1 && replicas[0].internalReplication === 1);
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

/** Whether tables of this engine know of their own server's inserts alone. */
export function isPlainMergeTree(engine: string): boolean {
  return engine.endsWith('MergeTree') && !SHARES_MEMORY.test(engine);
}

export interface TableName {
  readonly database: string;
  readonly table: string;
}

async function viewWarnings(client: ClickHouseClient, table: TableName): Promise<TableWarning[]> {
  const warnings: TableWarning[] = [];
  for (const target of await viewTargets(client, table)) warnings.push(...windowWarning(target, await engineOf(client, target)));
  return warnings;
}

/** The tables that materialized views write to when rows are inserted: a repeated insert has to be recognised there too. */
async function viewTargets(client: ClickHouseClient, { database, table }: TableName): Promise<TableName[]> {
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

export type Engine = Pick<ShardTable, 'engine' | 'engineFull' | 'filled'>;

/** Of the table that the server itself has by this name. @throws what ClickHouse says */
export async function engineOf(client: ClickHouseClient, { database, table }: TableName): Promise<Engine | undefined> {
  const query = 'SELECT engine, engine_full AS engineFull, coalesce(total_rows, 0) > 0 AS filled FROM system.tables WHERE database = {database:String} AND name = {table:String}';
  const [found] = await select<Engine>(client, query, { database, table });
  return found;
}

/** @param where the server, if it is not the one that is asked */
function windowWarning({ database, table }: TableName, engine: Engine | undefined, where = ''): TableWarning[] {
  if (engine === undefined || !isPlainMergeTree(engine.engine) || /non_replicated_deduplication_window = [1-9]/.test(engine.engineFull)) return [];
  return [
    `The table ${database}.${table}${where} does not recognise repeated inserts: a retry may store spans twice. Run: ` +
      `ALTER TABLE \`${database}\`.\`${table}\` MODIFY SETTING non_replicated_deduplication_window = ${DEDUPLICATION_WINDOW}`,
  ];
}
