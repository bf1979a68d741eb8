import { layouts, spans, type LayoutName, type Table } from './tables.ts';

/** What an operator decides of the schema. */
export interface SchemaOptions {
  readonly database: string;
  /** The table of spans; the names of the others begin with it. */
  readonly table: string;
  readonly layout: LayoutName;
  /** Days until rows are dropped; 0 keeps them. Undefined: DEFAULT_TTL_DAYS for new tables, and those that are there keep theirs. */
  readonly ttlDays?: number;
  /** Inserts whose tokens ClickHouse remembers: a retry within the last this many is stored once. */
  readonly deduplicationWindow: number;
  /** Where Keeper has the tables, and what this replica is called; macros are ClickHouse's. */
  readonly replicated?: { readonly path: string; readonly name: string };
  /** A cluster that every statement is run on. */
  readonly onCluster?: string;
  /** A cluster whose shards each hold a part of the rows, in tables that end in _local. */
  readonly distributed?: string;
}

export const DEDUPLICATION_WINDOW = 10_000;
export const DEFAULT_TTL_DAYS = 365;

export const defaultOptions = { layout: 'spans', deduplicationWindow: DEDUPLICATION_WINDOW } as const satisfies Partial<SchemaOptions>;

/** One thing that a schema consists of, and the statement that creates it, harmless when it is there. */
export type SchemaObject = { readonly name: string; readonly create: string } & (
  | { readonly kind: 'database' }
  | { readonly kind: 'table' | 'distributed'; readonly table: Table }
  | { readonly kind: 'view'; readonly select: string }
);

/**
 * Raised by one with each change of what `schemaObjects` makes, and written to the comment of the table of spans. 1 was
 * without one. A schema is brought up to date by comparing it, not by number, as peers make the tables too; the number keeps an
 * older collector from undoing what a newer one made.
 */
export const SCHEMA_VERSION = 2;
const COMMENT = 'hive-otel-collector schema ';
export const versionComment = `${COMMENT}${SCHEMA_VERSION}`;

/** @returns 1 for a table that has no version, as those that peers made */
export function versionOf(comment: string): number {
  return comment.startsWith(COMMENT) ? Number.parseInt(comment.slice(COMMENT.length), 10) : 1;
}

/** Everything the schema consists of, in the order it has to be created. */
export function schemaObjects(options: SchemaOptions): readonly SchemaObject[] {
  const { database, distributed } = options;
  const tables = layouts[options.layout];
  const list: SchemaObject[] = [{ kind: 'database', name: database, create: `CREATE DATABASE IF NOT EXISTS ${quote(database)}${onCluster(options)}` }];
  for (const table of tables) {
    const name = storedName(options, table);
    list.push({ kind: 'table', name, table, create: createTable(options, name, table) });
    if (distributed !== undefined) list.push({ kind: 'distributed', name: nameOf(options, table), table, create: createDistributed(options, distributed, table) });
  }
  for (const table of tables) {
    if (table.view === undefined) continue;
    const name = `${options.table}${table.view.suffix}`;
    const select = table.view.select(qualified(options, storedName(options, spans)));
    const create = `CREATE MATERIALIZED VIEW IF NOT EXISTS ${qualified(options, name)}${onCluster(options)} TO ${qualified(options, storedName(options, table))}\nAS ${select}`;
    list.push({ kind: 'view', name, select, create });
  }
  return list;
}

export function createStatements(options: SchemaOptions): readonly string[] {
  return schemaObjects(options).map(({ create }) => create);
}

/** The full name of a table, quoted. */
export function qualified({ database }: Pick<SchemaOptions, 'database'>, name: string): string {
  return `${quote(database)}.${quote(name)}`;
}

/** A name of anything in a statement, whatever characters are in it. ClickHouse writes such names in the same way. */
export function quote(name: string): string {
  return `\`${name.replace(/[\\`]/g, '\\$&')}\``;
}

/** A string literal in a statement. */
export function quoteText(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}

/** A name as ClickHouse prints it: between backticks, between quotes, or as it is. */
export function unquote(printed: string): string {
  return /^(['"`]).*\1$/s.test(printed) ? printed.slice(1, -1).replace(/\\(.)/gs, '$1') : printed;
}

export function onCluster({ onCluster: cluster }: SchemaOptions): string {
  return cluster === undefined ? '' : ` ON CLUSTER ${quote(cluster)}`;
}

export function columnDefinition({ name, type, codec }: Table['columns'][number]): string {
  return `${quote(name)} ${type} CODEC(${codec})`;
}

/** @returns undefined where rows are kept for ever */
export function ttlExpression({ ttlDays = DEFAULT_TTL_DAYS }: SchemaOptions, { expiresFrom }: Table): string | undefined {
  return ttlDays === 0 ? undefined : `${expiresFrom} + toIntervalDay(${ttlDays})`;
}

/** Settings of a table that holds rows, by name. Higher ones do as well. */
export function tableSettings({ replicated, deduplicationWindow }: SchemaOptions): Readonly<Record<string, number>> {
  if (replicated === undefined) return { index_granularity: 8192, ttl_only_drop_parts: 1, non_replicated_deduplication_window: deduplicationWindow };
  // By default ClickHouse forgets a token after an hour, and an outage may last longer.
  return { index_granularity: 8192, ttl_only_drop_parts: 1, replicated_deduplication_window: deduplicationWindow, replicated_deduplication_window_seconds: 604_800 };
}

function nameOf(options: SchemaOptions, { suffix }: Table): string {
  return `${options.table}${suffix}`;
}

/** The name of the table that holds the rows. */
function storedName(options: SchemaOptions, table: Table): string {
  return options.distributed === undefined ? nameOf(options, table) : `${nameOf(options, table)}_local`;
}

function createTable(options: SchemaOptions, name: string, table: Table): string {
  const lines = [...table.columns.map(columnDefinition), ...table.indexes.map((index) => `INDEX ${index.name} ${index.definition}`)];
  const ttl = ttlExpression(options, table);
  const settings = Object.entries(tableSettings(options)).map(([setting, value]) => `${setting} = ${value}`);
  return [
    `CREATE TABLE IF NOT EXISTS ${qualified(options, name)}${onCluster(options)} (\n  ${lines.join(',\n  ')}\n) ENGINE = ${engine(options, name)}`,
    `PARTITION BY ${table.partitionBy}`,
    `ORDER BY (${table.orderBy})`,
    ...(ttl === undefined ? [] : [`TTL ${ttl}`]),
    `SETTINGS ${settings.join(', ')}`,
    ...(table.suffix === '' ? [`COMMENT '${versionComment}'`] : []),
  ].join('\n');
}

/** {table} in the path is filled in here: ClickHouse would fill in the name at the time, which a RENAME changes. */
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
  ].join('\n');
}
