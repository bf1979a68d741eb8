import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { DEDUPLICATION_WINDOW, qualified, quote } from '../schema/schema.ts';
import { dialects } from '../transcode/columns/dialect.ts';
import { clusterServers, distributedTable, shardTables, type DistributedTable, type ShardTable } from './distributed-table.ts';
import { denialOf, findMissingGrants, grantStatements, ACCESS_DENIED } from './grants.ts';
import type { InsertOutcome } from './insert.ts';
import { select } from './select.ts';
import { compareColumns, type TableColumn } from './table-columns.ts';
import { engineOf, isPlainMergeTree, SHARES_MEMORY, type Engine } from './table-engine.ts';
import { createStatements } from './table.ts';
import { dependentViews, type TableName } from './views.ts';

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
  const name = { database, table };
  let columns = await columnsOf(client, name);
  if (columns.length === 0 && isNew && config.CLICKHOUSE_CREATE_SCHEMA) {
    await createMissing(client, config);
    columns = await columnsOf(client, name);
  }
  if (columns.length === 0) {
    throw new Error(
      `The table ${database}.${table} does not exist, or ${config.CLICKHOUSE_USERNAME} may not see it. Create it (npm run schema -- apply), or set CLICKHOUSE_CREATE_SCHEMA=true.`,
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

async function columnsOf(client: ClickHouseClient, { database, table }: TableName): Promise<readonly TableColumn[]> {
  const query = 'SELECT name, type, default_kind AS kind FROM system.columns WHERE database = {database:String} AND table = {table:String}';
  return select<TableColumn>(client, query, { database, table });
}

/** Creates the database and the table, as far as they are missing: whoever may not create needs not, where they are there. */
async function createMissing(client: ClickHouseClient, { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config): Promise<void> {
  const [createDatabase, createTable] = createStatements(database, table);
  const databases = await select(client, 'SELECT name FROM system.databases WHERE name = {database:String}', { database });
  if (databases.length === 0) await create(client, createDatabase, `The database ${database}`);
  await create(client, createTable, `The table ${database}.${table}`);
}

/** @throws Error that says what is missing, and which grant creating it takes; or whatever else ClickHouse says */
async function create(client: ClickHouseClient, statement: string, what: string): Promise<void> {
  try {
    await client.command({ query: statement });
  } catch (error) {
    const denial = error instanceof ClickHouseError && error.code === ACCESS_DENIED ? denialOf(error.message) : undefined;
    if (denial === undefined) throw error;
    throw new Error(
      `${what} does not exist, or ${denial.user} may not see it, and may not create it either. Create it (npm run schema -- apply), or run: ${grantStatements([denial])}`,
      { cause: error },
    );
  }
}

/**
 * What is refused for want of a grant may have been half done by then (grants.ts): so nothing is inserted before all are there.
 * @throws Error with the statements that give what is missing
 */
async function grantWarnings(client: ClickHouseClient, config: Config): Promise<TableWarning[]> {
  const { denials, views, hidden } = await findMissingGrants(client, config);
  const table = `${config.CLICKHOUSE_DATABASE}.${config.CLICKHOUSE_TABLE}`;
  const names = (list: typeof views) => list.map(({ database, name }) => `${database}.${name}`).join(', ');
  if (denials.length > 0) {
    const why = views.length === 0 ? '' : ` (it runs ${names(views)})`;
    throw new Error(
      `An insert into ${table}${why} takes grants that are missing. Inserts are paused until they are given. Run: ${grantStatements(denials)}`,
    );
  }
  if (hidden.length === 0) return [];
  const show = hidden
    .map(({ database, name }) => `GRANT SHOW TABLES ON ${qualified({ database }, name)} TO ${quote(config.CLICKHOUSE_USERNAME)}`)
    .join('; ');
  return [
    `The views ${names(hidden)} run with each insert into ${table}, and ${config.CLICKHOUSE_USERNAME} may not see what they read: a missing grant is noticed with the first insert only. To have it checked at the start, run: ${show}`,
  ];
}

/** @param where the server, if it is not the one that is asked */
function fitWarnings(config: Config, { database, table }: TableName, columns: readonly TableColumn[], where = ''): TableWarning[] {
  const { problems, losses } = compareColumns(columns, dialects[config.ROW_DIALECT], `ALTER TABLE ${qualified({ database }, table)}`);
  if (problems.length > 0)
    throw new Error(`The table ${database}.${table}${where} ${problems.join('; and it ')}. Nothing is inserted until that is mended.`);
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
  return [
    ...warnings,
    `The tables ${tables} are not Replicated, and an insert goes to one replica of a shard only (internal_replication): a retry may go to another, and be stored twice.`,
  ];
}

/** Whether a shard has replicas that know nothing of each other, and gets its rows through any of them. */
async function hasSeparateReplicas(
  client: ClickHouseClient,
  distributed: DistributedTable,
  shards: readonly ShardTable[],
): Promise<boolean> {
  if (shards.every(({ engine }) => SHARES_MEMORY.test(engine))) return false;
  const servers = await clusterServers(client, distributed);
  return [...Map.groupBy(servers, ({ shard }) => shard).values()].some(
    (replicas) => replicas.length > 1 && replicas[0].internalReplication === 1,
  );
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

/** The tables that views write to: a repeated insert has to be recognised there too. */
async function viewWarnings(client: ClickHouseClient, table: TableName): Promise<TableWarning[]> {
  const warnings: TableWarning[] = [];
  for (const { definition } of await dependentViews(client, table)) {
    if (definition !== undefined) warnings.push(...windowWarning(definition.target, await engineOf(client, definition.target)));
  }
  return warnings;
}

/** @param where the server, if it is not the one that is asked */
function windowWarning({ database, table }: TableName, engine: Engine | undefined, where = ''): TableWarning[] {
  if (engine === undefined || !isPlainMergeTree(engine.engine) || /non_replicated_deduplication_window = [1-9]/.test(engine.engineFull))
    return [];
  return [
    `The table ${database}.${table}${where} does not recognise repeated inserts: a retry may store spans twice. Run: ` +
      `ALTER TABLE ${qualified({ database }, table)} MODIFY SETTING non_replicated_deduplication_window = ${DEDUPLICATION_WINDOW}`,
  ];
}
