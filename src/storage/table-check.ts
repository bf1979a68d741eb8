import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { DEDUPLICATION_WINDOW, qualified, quote } from '../schema/schema.ts';
import { dialects } from '../transcode/columns/dialect.ts';
import { clusterServers, distributedTable, shardTables, type DistributedTable, type ShardTable } from './distributed-table.ts';
import { denialOf, findMissingGrants, grantStatements, ACCESS_DENIED } from './grants.ts';
import type { InsertOutcome } from './insert.ts';
import { select } from './select.ts';
import { columnsOf, compareColumns, type TableColumn } from './table-columns.ts';
import { engineOf, isPlainMergeTree, SHARES_DEDUPLICATION_LOG, type Engine } from './table-engine.ts';
import { createStatements } from './table.ts';
import { dependentViews, type TableName } from './views.ts';

/** A fault of the table, as a sentence for the log, that does not prevent inserts. */
export type TableWarning = string;

/**
 * Checks that the table exists and that its columns can hold our values, because ClickHouse converts silently.
 * @param isNew whether the server was unavailable before: then the schema is created if CLICKHOUSE_CREATE_SCHEMA is true, and grants
 *   and the local tables of a Distributed one, on every server of the cluster, are checked as well
 * @returns warnings
 * @throws Error that says what is wrong and how to fix it; ClickHouseError or a network error
 */
export async function checkTable(client: ClickHouseClient, config: Config, isNew = true): Promise<TableWarning[]> {
  const { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table } = config;
  const name = { database, table };
  let columns = await columnsOf(client, name);
  if (columns.length === 0 && isNew && config.CLICKHOUSE_CREATE_SCHEMA) {
    await createMissing(client, config);
    columns = await columnsOf(client, name);
  }
  if (columns.length === 0) {
    throw new Error(
      `The table ${database}.${table} does not exist, or ${config.CLICKHOUSE_USERNAME} may not see it. ` +
        'Create it (npm run schema -- apply), or set CLICKHOUSE_CREATE_SCHEMA=true.',
    );
  }
  const warnings = fitWarnings(config, name, columns);
  const engine = await engineOf(client, name);
  if (engine?.engine === 'Distributed') {
    const distributed = distributedTable(engine.engineFull);
    if (isNew) warnings.push(...(await shardWarnings(client, config, distributed)));
    warnings.push(...(await viewWarnings(client, distributed)));
  }
  warnings.push(...windowWarning(name, engine), ...(await viewWarnings(client, name)));
  if (isNew) warnings.push(...(await grantWarnings(client, config)));
  return warnings;
}

/** Creates the database, only if it is missing, and the table: a user without the grant CREATE DATABASE needs it only then. */
async function createMissing(client: ClickHouseClient, { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config): Promise<void> {
  const [createDatabase, createTable] = createStatements(database, table);
  const databases = await select(client, 'SELECT name FROM system.databases WHERE name = {database:String}', { database });
  if (databases.length === 0) await create(client, createDatabase, `The database ${database}`);
  await create(client, createTable, `The table ${database}.${table}`);
}

/** Runs a CREATE statement. @throws Error that names the missing object and grant; ClickHouseError for other reasons */
async function create(client: ClickHouseClient, statement: string, what: string): Promise<void> {
  try {
    await client.command({ query: statement });
  } catch (error) {
    const denial = error instanceof ClickHouseError && error.code === ACCESS_DENIED ? denialOf(error.message) : undefined;
    if (denial === undefined) throw error;
    throw new Error(
      `${what} does not exist, or ${denial.user} may not see it, and may not create it either. ` +
        `Create it (npm run schema -- apply), or run: ${grantStatements([denial])}`,
      { cause: error },
    );
  }
}

/**
 * Checks the grants in advance: an insert that fails for a missing grant may have written some of its rows (grants.ts).
 * @throws Error with the GRANT statements for what is missing
 */
async function grantWarnings(client: ClickHouseClient, config: Config): Promise<TableWarning[]> {
  const { denials, views, hidden } = await findMissingGrants(client, config);
  const table = `${config.CLICKHOUSE_DATABASE}.${config.CLICKHOUSE_TABLE}`;
  const names = (list: typeof views) => list.map(({ database, name }) => `${database}.${name}`).join(', ');
  if (denials.length > 0) {
    const why = views.length === 0 ? '' : ` (it runs ${names(views)})`;
    throw new Error(
      `An insert into ${table}${why} needs grants that are missing. Inserts are paused until they are granted. ` +
        `Run: ${grantStatements(denials)}`,
    );
  }
  if (hidden.length === 0) return [];
  const show = hidden
    .map(({ database, name }) => `GRANT SHOW TABLES ON ${qualified({ database }, name)} TO ${quote(config.CLICKHOUSE_USERNAME)}`)
    .join('; ');
  return [
    `The views ${names(hidden)} run with each insert into ${table}, and ${config.CLICKHOUSE_USERNAME} may not see what they read: ` +
      `a missing grant is noticed with the first insert only. To have it checked at the start, run: ${show}`,
  ];
}

/**
 * Warnings about columns that lose a part of our values.
 * @param where the server, if it is another one of the cluster
 * @throws Error when a column can't hold our values
 */
function fitWarnings(config: Config, { database, table }: TableName, columns: readonly TableColumn[], where = ''): TableWarning[] {
  const { problems, losses } = compareColumns(columns, dialects[config.ROW_DIALECT], `ALTER TABLE ${qualified({ database }, table)}`);
  if (problems.length > 0)
    throw new Error(`The table ${database}.${table}${where} ${problems.join('; and it ')}. Inserts are paused until the table is fixed.`);
  return losses.map((loss) => `The table ${database}.${table}${where} ${loss}.`);
}

/** Warnings about the local tables of a Distributed one. If they can't be queried, a warning says so: inserts must not wait for that. */
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
  return [
    ...warnings,
    `The tables ${tables} are not Replicated, and an insert goes to one replica of a shard only (internal_replication): ` +
      'a retry may go to another, and be stored twice.',
  ];
}

/** Whether a shard has several replicas without replication, and each insert goes to any one of them. */
async function hasSeparateReplicas(
  client: ClickHouseClient,
  distributed: DistributedTable,
  shards: readonly ShardTable[],
): Promise<boolean> {
  if (shards.every(({ engine }) => SHARES_DEDUPLICATION_LOG.test(engine))) return false;
  const servers = await clusterServers(client, distributed);
  return [...Map.groupBy(servers, ({ shard }) => shard).values()].some(
    (replicas) => replicas.length > 1 && replicas[0].internalReplication === 1,
  );
}

/** Turns `poison` into `retry` if the table has been altered so that our columns no longer fit: the bytes are kept until it is fixed. */
export async function retryIfTableUnfit(client: ClickHouseClient, config: Config, outcome: InsertOutcome): Promise<InsertOutcome> {
  if (outcome.status !== 'poison') return outcome;
  try {
    await checkTable(client, config);
    return outcome;
  } catch {
    return { status: 'retry', error: outcome.error };
  }
}

/** Warnings about the target tables of views: they need a deduplication window, too. */
async function viewWarnings(client: ClickHouseClient, table: TableName): Promise<TableWarning[]> {
  const warnings: TableWarning[] = [];
  for (const { definition } of await dependentViews(client, table)) {
    if (definition !== undefined) warnings.push(...windowWarning(definition.target, await engineOf(client, definition.target)));
  }
  return warnings;
}

/** The warning for a table without a deduplication window. @param where the server, if it is another one of the cluster */
function windowWarning({ database, table }: TableName, engine: Engine | undefined, where = ''): TableWarning[] {
  if (engine === undefined || !isPlainMergeTree(engine.engine) || /non_replicated_deduplication_window = [1-9]/.test(engine.engineFull))
    return [];
  return [
    `The table ${database}.${table}${where} does not deduplicate repeated inserts: a retry may store spans twice. Run: ` +
      `ALTER TABLE ${qualified({ database }, table)} MODIFY SETTING non_replicated_deduplication_window = ${DEDUPLICATION_WINDOW}`,
  ];
}
