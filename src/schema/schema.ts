import { layouts, requests, spans, type LayoutName, type Table } from './tables.ts';

/** What an operator can choose about the schema. */
export interface SchemaOptions {
  readonly database: string;
  /** The name of the spans table; the names of all other tables begin with it. */
  readonly table: string;
  readonly layout: LayoutName;
  /** Days until rows are dropped; 0 keeps them. Undefined: DEFAULT_TTL_DAYS for new tables; the TTL of existing ones stays. */
  readonly ttlDays?: number;
  /**
   * How many of the last inserts ClickHouse recognises by their tokens, so that a retry is stored once. Undefined: DEDUPLICATION_WINDOW
   * for tables of this collector; the window of other tables stays.
   */
  readonly deduplicationWindow?: number;
  /** The path in Keeper and the replica's name, both with ClickHouse's macros. */
  readonly replicated?: { readonly path: string; readonly name: string };
  /** The cluster for ON CLUSTER, which runs every statement on all its servers. */
  readonly onCluster?: string;
  /** The cluster of the Distributed tables. Its shards store the rows, in tables that end in _local. */
  readonly distributed?: string;
}

/** Inserts in a table's deduplication window, by default. */
export const DEDUPLICATION_WINDOW = 10_000;
export const DEFAULT_TTL_DAYS = 365;

/** The default options, except the names. */
export const defaultOptions = { layout: 'spans' } as const satisfies Partial<SchemaOptions>;

/** One object of the schema: a database, a table or a view, and the idempotent statement that creates it. */
export type SchemaObject = { readonly name: string; readonly create: string } & (
  | { readonly kind: 'database' }
  | { readonly kind: 'table' | 'distributed'; readonly table: Table }
  | { readonly kind: 'view'; readonly select: string; readonly earlier: readonly string[]; readonly filled: FilledTable }
);

/** The table that a view writes to. */
export interface FilledTable {
  readonly name: string;
  readonly table: Table;
}

/**
 * The version of the schema, increased by one with each change to `schemaObjects` and written to the comment of every table. Version 1
 * wrote no comments, version 2 only that of the spans table. The comment shows that this collector created the table and may change
 * it, and the number stops an older collector from changing the schema of a newer one. Differences are found by comparison, not by
 * the number.
 */
export const SCHEMA_VERSION = 3;
const COMMENT = 'hive-otel-collector schema ';
/** The comment of every table of this version. */
export const versionComment = `${COMMENT}${SCHEMA_VERSION}`;

/** The schema version in a table's comment; undefined if the table is of version 1 or was created by another program. */
export function versionOf(comment: string): number | undefined {
  return comment.startsWith(COMMENT) ? Number.parseInt(comment.slice(COMMENT.length), 10) : undefined;
}

/** All objects of the schema, in the order in which they must be created. */
export function schemaObjects(options: SchemaOptions): readonly SchemaObject[] {
  const { database, distributed } = options;
  const tables = layouts[options.layout];
  const list: SchemaObject[] = [
    { kind: 'database', name: database, create: `CREATE DATABASE IF NOT EXISTS ${quote(database)}${onCluster(options)}` },
  ];
  for (const table of tables) {
    const name = storedName(options, table);
    list.push({ kind: 'table', name, table, create: createTable(options, name, table) });
    if (distributed !== undefined)
      list.push({ kind: 'distributed', name: nameOf(options, table), table, create: createDistributed(options, distributed, table) });
  }
  for (const table of tables) {
    if (table.view === undefined) continue;
    const name = `${options.table}${table.view.suffix}`;
    const from = qualified(options, storedName(options, spans));
    const select = table.view.select(from);
    const earlier = table.view.earlier?.map((query) => query(from)) ?? [];
    const filled = { name: storedName(options, table), table };
    const view = `${qualified(options, name)}${onCluster(options)}`;
    const create = `CREATE MATERIALIZED VIEW IF NOT EXISTS ${view} TO ${qualified(options, filled.name)}\nAS ${select}`;
    list.push({ kind: 'view', name, select, earlier, filled, create });
  }
  return list;
}

/** The idempotent statements that create the whole schema, in order. */
export function createStatements(options: SchemaOptions): readonly string[] {
  return schemaObjects(options).map(({ create }) => create);
}

/**
 * The statements that rebuild the rows of otel_traces_normalized from the spans of a period, for a time when its view was wrong or
 * missing. Existing rows of the period are deleted first. The statements can be run again.
 * @param from first second, 'YYYY-MM-DD hh:mm:ss' in UTC
 * @param to the second after the last one, in the same form
 */
export function backfillStatements(options: SchemaOptions, from: string, to: string): readonly string[] {
  const target = qualified(options, storedName(options, requests));
  const names = requests.columns.map(({ name }) => quote(name)).join(', ');
  const within = (column: string) => `${column} >= toDateTime('${from}', 'UTC') AND ${column} < toDateTime('${to}', 'UTC')`;
  const select = requests.view!.select(qualified(options, storedName(options, spans)));
  return [
    `ALTER TABLE ${target} DELETE WHERE ${within('timestamp')} SETTINGS mutations_sync = 2`,
    [
      `INSERT INTO ${target} (${names})`,
      // The rows may equal those just deleted, which deduplication would drop; and a long period has many partitions.
      'SETTINGS insert_deduplicate = 0, max_partitions_per_insert_block = 0',
      `SELECT ${names} FROM (`,
      `  ${select} AND ${within('Timestamp')}`,
      // The view may have added rows of late spans since the first statement.
      `    AND (TraceId, SpanId) NOT IN (SELECT trace_id, span_id FROM ${target} WHERE ${within('timestamp')})`,
      ')',
    ].join('\n'),
  ];
}

/** A table's name with its database, quoted. */
export function qualified({ database }: Pick<SchemaOptions, 'database'>, name: string): string {
  return `${quote(database)}.${quote(name)}`;
}

/** Quotes an identifier with backticks, so that it may contain any characters. ClickHouse prints identifiers in the same form. */
export function quote(name: string): string {
  return `\`${name.replace(/[\\`]/g, '\\$&')}\``;
}

/** Quotes a text as a string literal. */
export function quoteText(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}

/** Reverts the quoting of a name that ClickHouse has printed: in backticks, in quotes, or unquoted. */
export function unquote(printed: string): string {
  return /^(['"`]).*\1$/s.test(printed) ? printed.slice(1, -1).replace(/\\(.)/gs, '$1') : printed;
}

/** ` ON CLUSTER …` for a DDL statement; '' without a cluster. */
export function onCluster({ onCluster: cluster }: SchemaOptions): string {
  return cluster === undefined ? '' : ` ON CLUSTER ${quote(cluster)}`;
}

/** A column's definition for CREATE TABLE and ADD COLUMN. */
export function columnDefinition({ name, type, codec }: Table['columns'][number]): string {
  return `${quote(name)} ${type} CODEC(${codec})`;
}

/** The TTL expression of a table; undefined if rows are never dropped. */
export function ttlExpression({ ttlDays = DEFAULT_TTL_DAYS }: SchemaOptions, { expiresFrom }: Table): string | undefined {
  return ttlDays === 0 ? undefined : `${expiresFrom} + toIntervalDay(${ttlDays})`;
}

/** The settings of a table that stores rows, by name. In existing tables, higher values are accepted. */
export function tableSettings({ replicated, deduplicationWindow = DEDUPLICATION_WINDOW }: SchemaOptions): Readonly<Record<string, number>> {
  if (replicated === undefined)
    return { index_granularity: 8192, ttl_only_drop_parts: 1, non_replicated_deduplication_window: deduplicationWindow };
  // By default ClickHouse forgets a token after an hour, and an outage may last longer.
  return {
    index_granularity: 8192,
    ttl_only_drop_parts: 1,
    replicated_deduplication_window: deduplicationWindow,
    replicated_deduplication_window_seconds: 604_800,
  };
}

function nameOf(options: SchemaOptions, { suffix }: Table): string {
  return `${options.table}${suffix}`;
}

/** The name of the table that stores the rows: with a Distributed table, the local one. */
function storedName(options: SchemaOptions, table: Table): string {
  return options.distributed === undefined ? nameOf(options, table) : `${nameOf(options, table)}_local`;
}

function createTable(options: SchemaOptions, name: string, table: Table): string {
  const lines = [...table.columns.map(columnDefinition), ...table.indexes.map((index) => `INDEX ${index.name} ${index.definition}`)];
  const ttl = ttlExpression(options, table);
  const settings = Object.entries(tableSettings(options)).map(([setting, value]) => `${setting} = ${value}`);
  return [
    `CREATE TABLE IF NOT EXISTS ${qualified(options, name)}${onCluster(options)} (\n  ${lines.join(',\n  ')}`,
    `) ENGINE = ${engine(options, name)}`,
    `PARTITION BY ${table.partitionBy}`,
    `ORDER BY (${table.orderBy})`,
    ...(ttl === undefined ? [] : [`TTL ${ttl}`]),
    `SETTINGS ${settings.join(', ')}`,
    `COMMENT '${versionComment}'`,
  ].join('\n');
}

/** The engine, with {database} and {table} in the path expanded: ClickHouse would expand them anew after a RENAME, to another path. */
function engine({ replicated, database }: SchemaOptions, table: string): string {
  if (replicated === undefined) return 'MergeTree';
  const path = replicated.path.replace(/\{(database|table)\}/g, (_, macro) => (macro === 'database' ? database : table));
  return `ReplicatedMergeTree(${quoteText(path)}, ${quoteText(replicated.name)})`;
}

function createDistributed(options: SchemaOptions, cluster: string, table: Table): string {
  const local = storedName(options, table);
  return [
    `CREATE TABLE IF NOT EXISTS ${qualified(options, nameOf(options, table))}${onCluster(options)} AS ${qualified(options, local)}`,
    `ENGINE = Distributed(${[cluster, options.database, local].map(quoteText).join(', ')}, ${table.shardBy})`,
    `COMMENT '${versionComment}'`,
  ].join('\n');
}
