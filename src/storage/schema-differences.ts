import type { ClickHouseClient } from '@clickhouse/client';
import { plainType, timeZone } from '../schema/column-type.ts';
import {
  columnDefinition,
  onCluster,
  qualified,
  quote,
  schemaObjects,
  SCHEMA_VERSION,
  tableSettings,
  ttlExpression,
  versionComment,
  versionOf,
  type SchemaObject,
  type SchemaOptions,
} from '../schema/schema.ts';
import type { Table } from '../schema/tables.ts';
import { distributedTable, shardTables } from './distributed-table.ts';
import { select } from './select.ts';

/** One difference between the schema on a server and the options. */
export type Difference = { readonly what: string } &
  /** `apply` runs the statement, which is idempotent. */
  (
    | { readonly kind: 'change'; readonly statement: string }
    /** It can't be changed in place: it needs a new table. */
    | { readonly kind: 'unchangeable' }
    /** In a table or view that this collector did not create: `apply` leaves it alone. The notes give details, a line each. */
    | { readonly kind: 'yours'; readonly notes: readonly string[] }
  );

/** The query of an existing view and ours, both formatted by ClickHouse: equal (`current`), one of an earlier version, or `unknown`. */
interface ComparedQuery {
  readonly query: 'current' | 'earlier' | 'unknown';
  readonly yours: string;
  readonly ours: string;
}

type TableObject = Extract<SchemaObject, { table: Table }>;
type ViewObject = Extract<SchemaObject, { kind: 'view' }>;

/** What `apply` may change in a table without an option that says so. */
interface Rights {
  readonly columns: boolean;
  readonly everything: boolean;
}

/** A row of system.tables. */
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
  /** Names of the indexes, and also their expressions with the type: 'Duration minmax'. */
  readonly indexes: ReadonlySet<string>;
}

type Tables = ReadonlyMap<string, Found>;

/**
 * Compares the schema on one server with the options. The differences are in the order in which they must be applied. Additional
 * columns, indexes and tables are no difference.
 * @throws ClickHouseError or a network error
 */
export async function differences(client: ClickHouseClient, options: SchemaOptions): Promise<readonly Difference[]> {
  const found = await find(client, options.database);
  const objects = schemaObjects(options);
  const queries = await viewQueries(client, objects, found.tables);
  const list: Difference[] = [];
  for (const object of objects) {
    if (object.kind === 'database') {
      if (!found.database) list.push({ what: `The database ${object.name} does not exist`, kind: 'change', statement: object.create });
      continue;
    }
    const existing = found.tables.get(object.name);
    if (existing === undefined) list.push(missing(object, found.tables));
    else if (object.kind === 'view') list.push(...viewDifferences(options, object, queries.get(object.name)));
    else {
      const rights = rightsTo(options, object, existing, isFilledByUs(object, objects, queries));
      list.push(...tableDifferences(options, object, existing, rights, found.timeZone));
    }
  }
  return list;
}

/**
 * The difference for an object that does not exist. A view that fills a foreign table is not created while that table lacks columns:
 * ClickHouse would refuse it, or drop their values.
 */
function missing(object: TableObject | ViewObject, tables: Tables): Difference {
  const what = `${object.name} does not exist`;
  const target = object.kind === 'view' ? tables.get(object.filled.name) : undefined;
  if (object.kind !== 'view' || target === undefined || versionOf(target.state.comment) !== undefined)
    return { what, kind: 'change', statement: object.create };
  const lacking = object.filled.table.columns.filter(({ name }) => !target.columns.has(name)).map(({ name }) => name);
  if (lacking.length === 0) return { what, kind: 'change', statement: object.create };
  return {
    what,
    kind: 'yours',
    notes: [`It is not created while ${object.filled.name}, which it would fill, has no column ${lacking.join(', ')}.`],
  };
}

/**
 * A table may be changed if its comment says that this collector created it. Version 2 wrote no comments to Distributed tables, which are
 * recognised by their engine, nor to tables that views fill: if the view is ours, only the columns that it writes may be added.
 */
function rightsTo(options: SchemaOptions, { kind, name }: TableObject, { state }: Found, filledByUs: boolean): Rights {
  const everything = versionOf(state.comment) !== undefined;
  return { everything, columns: everything || filledByUs || (kind === 'distributed' && isOurDistributed(options, name, state)) };
}

/** Whether a view of ours fills the table. A query without earlier versions proves nothing: other programs create the same one. */
function isFilledByUs({ name }: TableObject, objects: readonly SchemaObject[], queries: ReadonlyMap<string, ComparedQuery>): boolean {
  const view = objects.find((object): object is ViewObject => object.kind === 'view' && object.filled.name === name);
  if (view === undefined || view.earlier.length === 0) return false;
  return ['current', 'earlier'].includes(queries.get(view.name)?.query ?? 'unknown');
}

function isOurDistributed({ database, distributed }: SchemaOptions, name: string, { engine_full: engine }: TableState): boolean {
  const found = distributedTable(engine);
  return found.cluster === distributed && found.database === database && found.table === `${name}_local`;
}

/**
 * Compares the columns of the local tables of Distributed ones, on the cluster's other servers.
 * @throws ClickHouseError, also for a missing grant REMOTE
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
      list.push(...columnDifferences(alter, `${object.name} (${shard.server})`, object, columns, true));
    }
  }
  return list;
}

/** The schema version in the comment of the spans table; undefined without a table or a version. @throws ClickHouseError */
export async function installedVersion(client: ClickHouseClient, options: SchemaOptions): Promise<number | undefined> {
  const { tables } = await find(client, options.database);
  const spans = schemaObjects(options).find(({ kind }) => kind === 'table');
  const existing = spans && tables.get(spans.name);
  return existing && versionOf(existing.state.comment);
}

function tableDifferences(
  options: SchemaOptions,
  object: TableObject,
  { state, columns, indexes }: Found,
  rights: Rights,
  serverZone: string,
): Difference[] {
  const { kind, name, table } = object;
  const alter = `ALTER TABLE ${qualified(options, name)}${onCluster(options)}`;
  const list = columnDifferences(alter, name, object, columns, rights.columns, serverZone);
  const wantedEngine = kind === 'distributed' ? 'Distributed' : options.replicated === undefined ? 'MergeTree' : 'ReplicatedMergeTree';
  // ClickHouse Cloud replaces every MergeTree engine by a Shared one of its own.
  if (state.engine !== wantedEngine && !state.engine.startsWith('Shared'))
    list.push({ what: `${name} has the engine ${state.engine}, not ${wantedEngine}`, kind: 'unchangeable' });
  if (kind === 'distributed') return list;

  for (const index of table.indexes) {
    if (indexes.has(index.name) || indexes.has(index.definition.replace(/ TYPE (\w+).*/, ' $1'))) continue;
    list.push(
      change(`${name} has no index ${index.name}`, `${alter} ADD INDEX IF NOT EXISTS ${index.name} ${index.definition}`, rights.everything),
    );
  }
  if (state.partition_key !== table.partitionBy)
    list.push({ what: `${name} is partitioned by ${state.partition_key || 'nothing'}, not by ${table.partitionBy}`, kind: 'unchangeable' });
  if (state.sorting_key !== table.orderBy)
    list.push({ what: `${name} is ordered by ${state.sorting_key || 'nothing'}, not by ${table.orderBy}`, kind: 'unchangeable' });
  list.push(...ttlDifferences(options, alter, name, table, state), ...settingDifferences(options, alter, name, state, rights));
  if (rights.everything && versionOf(state.comment)! < SCHEMA_VERSION) {
    list.push(change(`${name} has no comment '${versionComment}'`, `${alter} MODIFY COMMENT '${versionComment}'`, true));
  }
  return list;
}

function change(what: string, statement: string, allowed: boolean): Difference {
  return allowed ? { what, kind: 'change', statement } : { what, kind: 'yours', notes: [`To change it, run: ${statement}`] };
}

/** @param serverZone the time zone of columns that name none; undefined if it is not known */
function columnDifferences(
  alter: string,
  name: string,
  { kind, table }: TableObject,
  columns: Found['columns'],
  allowed: boolean,
  serverZone?: string,
): Difference[] {
  const wanted = table.columns;
  return wanted.flatMap((column, i): Difference[] => {
    const type = columns.get(column.name);
    if (type === undefined) {
      const position = i === 0 ? 'FIRST' : `AFTER ${quote(wanted[i - 1].name)}`;
      const definition = kind === 'table' ? columnDefinition(column) : `${quote(column.name)} ${column.type}`;
      return [change(`${name} has no column ${column.name}`, `${alter} ADD COLUMN IF NOT EXISTS ${definition} ${position}`, allowed)];
    }
    if (plainType(type) !== plainType(column.type))
      return [{ what: `${name}.${column.name} is ${type}, not ${column.type}`, kind: 'unchangeable' }];
    const zone = timeZone(type) ?? serverZone;
    if (timeZone(column.type) === undefined || zone === undefined || isUtc(zone)) return [];
    return [{ what: `${name}.${column.name} is ${type}, shown as time in ${zone}, not ${column.type}`, kind: 'unchangeable' }];
  });
}

/** Whether the zone is UTC, the only one in the schema, by any of its names. */
function isUtc(zone: string): boolean {
  return /^(Etc\/)?(UTC|UCT|GMT|GMT[+-]?0|Universal|Zulu|Greenwich)$/.test(zone);
}

/** Compares the TTL, only if the options set one. Then it is changed in foreign tables too. */
function ttlDifferences(
  options: SchemaOptions,
  alter: string,
  name: string,
  table: Table,
  { engine_full: engine }: TableState,
): Difference[] {
  if (options.ttlDays === undefined) return [];
  const wanted = ttlExpression(options, table);
  const existing = / TTL (.*?)(?: SETTINGS |$)/.exec(engine)?.[1];
  if (existing === wanted) return [];
  const what = `${name} has ${existing === undefined ? 'no TTL' : `the TTL ${existing}`}, not ${wanted ?? 'none'}`;
  return [change(what, wanted === undefined ? `${alter} REMOVE TTL` : `${alter} MODIFY TTL ${wanted}`, true)];
}

/** Compares the table's settings. A deduplication window that the options set is changed in foreign tables too. */
function settingDifferences(
  options: SchemaOptions,
  alter: string,
  name: string,
  { engine, engine_full: full }: TableState,
  { everything }: Rights,
): Difference[] {
  if (engine.startsWith('Shared')) return [];
  const existing = new Map([...full.matchAll(/(\w+) = (\d+)/g)].map(([, setting, value]) => [setting, Number(value)]));
  return Object.entries(tableSettings(options)).flatMap(([setting, value]) => {
    const is = existing.get(setting);
    if (setting === 'index_granularity' || (is !== undefined && is >= value)) return [];
    const asked = options.deduplicationWindow !== undefined && setting.includes('deduplication_window');
    return [
      change(
        `${name} has ${setting} ${is === undefined ? 'unset' : `= ${is}`}, not ${value}`,
        `${alter} MODIFY SETTING ${setting} = ${value}`,
        everything || asked,
      ),
    ];
  });
}

/** Compares the queries of a view, after ClickHouse has formatted them. */
async function compareQueries(client: ClickHouseClient, { select: wanted, earlier }: ViewObject, existing: string): Promise<ComparedQuery> {
  const texts = Object.fromEntries([existing, wanted, ...earlier].map((text, i) => [`query${i}`, text]));
  const formats = Object.keys(texts).map((param) => `formatQuerySingleLine({${param}:String})`);
  const [
    {
      formatted: [yours, ours, ...before],
    },
  ] = await select<{ formatted: string[] }>(client, `SELECT [${formats.join(', ')}] AS formatted`, texts);
  if (isSameQuery(yours, ours)) return { query: 'current', yours, ours };
  return { query: before.some((text) => isSameQuery(text, yours)) ? 'earlier' : 'unknown', yours, ours };
}

/** Compares without backticks, as ClickHouse quotes only the names that need it. */
function isSameQuery(a: string, b: string): boolean {
  return a.replaceAll('`', '') === b.replaceAll('`', '');
}

/** The compared queries of all existing views, by the view's name. */
async function viewQueries(
  client: ClickHouseClient,
  objects: readonly SchemaObject[],
  tables: Tables,
): Promise<ReadonlyMap<string, ComparedQuery>> {
  const queries = new Map<string, ComparedQuery>();
  for (const object of objects) {
    const state = tables.get(object.name)?.state;
    if (object.kind === 'view' && state?.engine === 'MaterializedView')
      queries.set(object.name, await compareQueries(client, object, state.as_select));
  }
  return queries;
}

function viewDifferences(options: SchemaOptions, { name, select: wanted }: ViewObject, compared: ComparedQuery | undefined): Difference[] {
  if (compared === undefined) return [{ what: `${name} is not a materialized view`, kind: 'unchangeable' }];
  if (compared.query === 'current') return [];
  if (compared.query === 'unknown') {
    return [{ what: `${name} has a different query`, kind: 'yours', notes: [`yours: ${compared.yours}`, `ours:  ${compared.ours}`] }];
  }
  const statement = `ALTER TABLE ${qualified(options, name)}${onCluster(options)} MODIFY QUERY ${wanted}`;
  return [{ what: `${name} has the query of an earlier version`, kind: 'change', statement }];
}

/** Reads all that is compared from one server. */
async function find(client: ClickHouseClient, database: string): Promise<{ database: boolean; timeZone: string; tables: Tables }> {
  const [[{ zone }], databases, tables, columns, indexes] = await Promise.all([
    select<{ zone: string }>(client, 'SELECT timezone() AS zone', {}),
    select(client, 'SELECT name FROM system.databases WHERE name = {database:String}', { database }),
    select<TableState>(
      client,
      `SELECT name, engine, engine_full, partition_key, sorting_key, as_select, comment FROM system.tables
       WHERE database = {database:String}`,
      { database },
    ),
    select<{ table: string; name: string; type: string }>(
      client,
      'SELECT table, name, type FROM system.columns WHERE database = {database:String}',
      { database },
    ),
    select<{ table: string; name: string; expression: string }>(
      client,
      "SELECT table, name, concat(expr, ' ', type) AS expression FROM system.data_skipping_indices WHERE database = {database:String}",
      { database },
    ),
  ]);
  const columnsOf = Map.groupBy(columns, ({ table }) => table);
  const indexesOf = Map.groupBy(indexes, ({ table }) => table);
  const found = tables.map((state): [string, Found] => [
    state.name,
    {
      state,
      columns: new Map(columnsOf.get(state.name)?.map(({ name, type }) => [name, type])),
      indexes: new Set(indexesOf.get(state.name)?.flatMap(({ name, expression }) => [name, expression])),
    },
  ]);
  return { database: databases.length > 0, timeZone: zone, tables: new Map(found) };
}
