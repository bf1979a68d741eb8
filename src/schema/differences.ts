import type { ClickHouseClient } from '@clickhouse/client';
import { shardTables } from '../storage/distributed-table.ts';
import { select } from '../storage/select.ts';
import { plainType } from './column-type.ts';
import { columnDefinition, onCluster, qualified, quote, schemaObjects, SCHEMA_VERSION, tableSettings, ttlExpression, versionComment, versionOf, type SchemaObject, type SchemaOptions } from './schema.ts';
import type { Table } from './tables.ts';

/** One thing that is not as the options want it. */
export interface Difference {
  readonly what: string;
  /** The statement that mends it, harmless when repeated; what has none needs a new table. */
  readonly statement?: string;
}

interface TableState {
  readonly name: string;
  readonly engine: string;
  readonly engine_full: string;
  readonly partition_key: string;
  readonly sorting_key: string;
  readonly as_select: string;
  readonly comment: string;
}

interface Found {
  readonly state: TableState;
  /** Types by name. */
  readonly columns: ReadonlyMap<string, string>;
  readonly indexes: ReadonlySet<string>;
}

/**
 * Compares what is on one server with what the options want, in the order in which it has to be mended. What is there
 * besides (columns, indexes, tables) is nobody's business.
 */
export async function differences(client: ClickHouseClient, options: SchemaOptions): Promise<readonly Difference[]> {
  const found = await find(client, options.database);
  const list: Difference[] = [];
  for (const object of schemaObjects(options)) {
    if (object.kind === 'database') {
      if (!found.database) list.push({ what: `The database ${object.name} does not exist`, statement: object.create });
      continue;
    }
    const existing = found.tables.get(object.name);
    if (existing === undefined) list.push({ what: `${object.name} does not exist`, statement: object.create });
    else if (object.kind === 'view') list.push(...(await viewDifferences(client, options, object, existing)));
    else list.push(...tableDifferences(options, object, existing));
  }
  return list;
}

/**
 * Compares the columns of the tables behind the Distributed ones on the cluster's other servers, as far as the user may ask them.
 * @throws what ClickHouse says, as that the user may not
 */
export async function shardDifferences(client: ClickHouseClient, options: SchemaOptions): Promise<readonly Difference[]> {
  const { database, distributed: cluster } = options;
  if (cluster === undefined) return [];
  const [self] = await select<{ server: string }>(client, "SELECT concat(', ', hostName(), ':', toString(tcpPort())) AS server", {});
  const list: Difference[] = [];
  for (const object of schemaObjects(options)) {
    if (object.kind !== 'table') continue;
    const alter = `ALTER TABLE ${qualified(options, object.name)}${onCluster(options)}`;
    for (const shard of await shardTables(client, { cluster, database, table: object.name })) {
      if (shard.server.endsWith(self.server)) continue;
      const columns = new Map(shard.columns.map(({ name, type }) => [name, type]));
      list.push(...columnDifferences(alter, `${object.name} (${shard.server})`, object.table, columns, true));
    }
  }
  return list;
}

/** The schema's version; undefined where there is none yet. */
export async function installedVersion(client: ClickHouseClient, options: SchemaOptions): Promise<number | undefined> {
  const { tables } = await find(client, options.database);
  const spans = schemaObjects(options).find(({ kind }) => kind === 'table');
  const existing = spans && tables.get(spans.name);
  return existing && versionOf(existing.state.comment);
}

function tableDifferences(options: SchemaOptions, { kind, name, table }: Extract<SchemaObject, { table: Table }>, { state, columns, indexes }: Found): Difference[] {
  const alter = `ALTER TABLE ${qualified(options, name)}${onCluster(options)}`;
  const list = columnDifferences(alter, name, table, columns, kind === 'table');
  const wantedEngine = kind === 'distributed' ? 'Distributed' : options.replicated === undefined ? 'MergeTree' : 'ReplicatedMergeTree';
  // ClickHouse Cloud has an engine of its own, and takes every other name for it.
  if (state.engine !== wantedEngine && !state.engine.startsWith('Shared')) list.push({ what: `${name} has the engine ${state.engine}, not ${wantedEngine}` });
  if (kind === 'distributed') return list;

  for (const index of table.indexes) {
    if (!indexes.has(index.name)) list.push({ what: `${name} has no index ${index.name}`, statement: `${alter} ADD INDEX IF NOT EXISTS ${index.name} ${index.definition}` });
  }
  if (state.partition_key !== table.partitionBy) list.push({ what: `${name} is partitioned by ${state.partition_key || 'nothing'}, not by ${table.partitionBy}` });
  if (state.sorting_key !== table.orderBy) list.push({ what: `${name} is ordered by ${state.sorting_key || 'nothing'}, not by ${table.orderBy}` });
  list.push(...ttlDifferences(options, alter, name, table, state), ...settingDifferences(options, alter, name, state));
  if (table.suffix === '' && versionOf(state.comment) < SCHEMA_VERSION) {
    list.push({ what: `${name} has no comment '${versionComment}'`, statement: `${alter} MODIFY COMMENT '${versionComment}'` });
  }
  return list;
}

function columnDifferences(alter: string, name: string, { columns: wanted }: Table, columns: Found['columns'], stored: boolean): Difference[] {
  return wanted.flatMap((column, i) => {
    const type = columns.get(column.name);
    if (type === undefined) {
      const place = i === 0 ? 'FIRST' : `AFTER ${quote(wanted[i - 1].name)}`;
      const definition = stored ? columnDefinition(column) : `${quote(column.name)} ${column.type}`;
      return { what: `${name} has no column ${column.name}`, statement: `${alter} ADD COLUMN IF NOT EXISTS ${definition} ${place}` };
    }
    return plainType(type) === plainType(column.type) ? [] : { what: `${name}.${column.name} is ${type}, not ${column.type}` };
  });
}

function ttlDifferences(options: SchemaOptions, alter: string, name: string, table: Table, { engine_full: engine }: TableState): Difference[] {
  if (options.ttlDays === undefined) return [];
  const wanted = ttlExpression(options, table);
  const existing = / TTL (.*?)(?: SETTINGS |$)/.exec(engine)?.[1];
  if (existing === wanted) return [];
  return [
    {
      what: `${name} has ${existing === undefined ? 'no TTL' : `the TTL ${existing}`}, not ${wanted ?? 'none'}`,
      statement: wanted === undefined ? `${alter} REMOVE TTL` : `${alter} MODIFY TTL ${wanted}`,
    },
  ];
}

function settingDifferences(options: SchemaOptions, alter: string, name: string, { engine, engine_full: full }: TableState): Difference[] {
  if (engine.startsWith('Shared')) return [];
  const existing = new Map([...full.matchAll(/(\w+) = (\d+)/g)].map(([, setting, value]) => [setting, Number(value)]));
  return Object.entries(tableSettings(options)).flatMap(([setting, value]) => {
    const is = existing.get(setting);
    if (setting === 'index_granularity' || (is !== undefined && is >= value)) return [];
    return { what: `${name} has ${setting} ${is === undefined ? 'unset' : `= ${is}`}, not ${value}`, statement: `${alter} MODIFY SETTING ${setting} = ${value}` };
  });
}

/** Both queries are brought into ClickHouse's own form first. */
async function viewDifferences(client: ClickHouseClient, options: SchemaOptions, { name, select: wanted }: Extract<SchemaObject, { kind: 'view' }>, { state }: Found): Promise<Difference[]> {
  if (state.engine !== 'MaterializedView') return [{ what: `${name} is no materialized view` }];
  const [forms] = await select<{ existing: string; wanted: string }>(
    client,
    'SELECT formatQuerySingleLine({existing:String}) AS existing, formatQuerySingleLine({wanted:String}) AS wanted',
    { existing: state.as_select, wanted },
  );
  if (forms.existing.replaceAll('`', '') === forms.wanted.replaceAll('`', '')) return [];
  const statement = `ALTER TABLE ${qualified(options, name)}${onCluster(options)} MODIFY QUERY ${wanted}`;
  return [{ what: `${name} has another query`, statement }];
}

async function find(client: ClickHouseClient, database: string): Promise<{ database: boolean; tables: ReadonlyMap<string, Found> }> {
  const [databases, tables, columns, indexes] = await Promise.all([
    select(client, 'SELECT name FROM system.databases WHERE name = {database:String}', { database }),
    select<TableState>(
      client,
      'SELECT name, engine, engine_full, partition_key, sorting_key, as_select, comment FROM system.tables WHERE database = {database:String}',
      { database },
    ),
    select<{ table: string; name: string; type: string }>(client, 'SELECT table, name, type FROM system.columns WHERE database = {database:String}', { database }),
    select<{ table: string; name: string }>(client, 'SELECT table, name FROM system.data_skipping_indices WHERE database = {database:String}', { database }),
  ]);
  const columnsOf = Map.groupBy(columns, ({ table }) => table);
  const indexesOf = Map.groupBy(indexes, ({ table }) => table);
  const found = tables.map((state): [string, Found] => [
    state.name,
    {
      state,
      columns: new Map(columnsOf.get(state.name)?.map(({ name, type }) => [name, type])),
      indexes: new Set(indexesOf.get(state.name)?.map(({ name }) => name)),
    },
  ]);
  return { database: databases.length > 0, tables: new Map(found) };
}
