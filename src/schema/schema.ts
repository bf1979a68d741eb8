import { layouts, requests, spans, type LayoutName, type Table } from './tables.ts';

/** What an operator decides of the schema. */
export interface SchemaOptions {
  readonly database: string;
  /** The table of spans; the names of the others begin with it. */
  readonly table: string;
  readonly layout: LayoutName;
  /** Days until rows are dropped; 0 keeps them. Undefined: DEFAULT_TTL_DAYS for new tables, and existing ones keep theirs. */
  readonly ttlDays?: number;
  /**
   * Inserts whose tokens ClickHouse remembers: a retry within the last this many is stored once. Undefined: DEDUPLICATION_WINDOW
   * for tables of this collector, and others keep theirs.
   */
  readonly deduplicationWindow?: number;
  /** Where Keeper has the tables, and what this replica is called; macros are ClickHouse's. */
  readonly replicated?: { readonly path: string; readonly name: string };
  /** A cluster that every statement is run on. */
  readonly onCluster?: string;
  /** A cluster whose shards each hold a part of the rows, in tables that end in _local. */
  readonly distributed?: string;
}

export const DEDUPLICATION_WINDOW = 10_000;
export const DEFAULT_TTL_DAYS = 365;

export const defaultOptions = { layout: 'spans' } as const satisfies Partial<SchemaOptions>;

/** One thing that a schema consists of, and the statement that creates it, harmless when it is there. */
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
 * Raised by one with each change of what `schemaObjects` makes, and written to the comment of every table. 1 had no comments, 2
 * one on the table of spans only. The number does two things: a comment shows that the table is this collector's to change, and an
 * older collector leaves alone what a newer one made. What has to be changed is found by comparing, not by number.
 */
export const SCHEMA_VERSION = 3;
const COMMENT = 'hive-otel-collector schema ';
export const versionComment = `${COMMENT}${SCHEMA_VERSION}`;

/** @returns undefined for a table that has no version: something else made it, or the schema was version 1 */
export function versionOf(comment: string): number | undefined {
  return comment.startsWith(COMMENT) ? Number.parseInt(comment.slice(COMMENT.length), 10) : undefined;
}

/** Everything the schema consists of, in the order it has to be created. */
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
    const create = `CREATE MATERIALIZED VIEW IF NOT EXISTS ${qualified(options, name)}${onCluster(options)} TO ${qualified(options, filled.name)}\nAS ${select}`;
    list.push({ kind: 'view', name, select, earlier, filled, create });
  }
  return list;
}

export function createStatements(options: SchemaOptions): readonly string[] {
  return schemaObjects(options).map(({ create }) => create);
}

/**
 * Statements that make the rows of otel_traces_normalized anew from the spans of a time: what a view that was wrong, or missing,
 * left there is deleted first. They can be run again.
 * @param from first second, 'YYYY-MM-DD hh:mm:ss' in UTC
 * @param to the second after the last one
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
      // The rows could equal those that were deleted, and a long time has many partitions.
      'SETTINGS insert_deduplicate = 0, max_partitions_per_insert_block = 0',
      `SELECT ${names} FROM (`,
      `  ${select} AND ${within('Timestamp')}`,
      // Late spans may have come between the two statements.
      `    AND (TraceId, SpanId) NOT IN (SELECT trace_id, span_id FROM ${target} WHERE ${within('timestamp')})`,
      ')',
    ].join('\n'),
  ];
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
    `COMMENT '${versionComment}'`,
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
    `COMMENT '${versionComment}'`,
  ].join('\n');
}
