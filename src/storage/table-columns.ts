import type { ClickHouseClient } from '@clickhouse/client';
import { columnFit } from '../schema/column-fit.ts';
import { plainType } from '../schema/column-type.ts';
import { quote } from '../schema/schema.ts';
import { spans } from '../schema/tables.ts';
import type { Dialect } from '../transcode/columns/dialect.ts';
import { wireColumns } from '../transcode/columns/native-block.ts';
import { select } from './select.ts';
import type { TableName } from './views.ts';

/** A column, as in system.columns. */
export interface TableColumn {
  readonly name: string;
  readonly type: string;
  /** `default_kind`: '' or DEFAULT, MATERIALIZED, ALIAS, EPHEMERAL. */
  readonly kind: string;
}

/** The columns of a table on this server; none if there is no such table. @throws ClickHouseError or a network error */
export async function columnsOf(client: ClickHouseClient, { database, table }: TableName): Promise<TableColumn[]> {
  const query = 'SELECT name, type, default_kind AS kind FROM system.columns WHERE database = {database:String} AND table = {table:String}';
  return select<TableColumn>(client, query, { database, table });
}

/** Each entry completes a sentence that begins with the table's name. */
export interface ColumnReport {
  /** Why spans must not be inserted. */
  readonly problems: readonly string[];
  /** Values that are inserted, but not kept exactly. */
  readonly losses: readonly string[];
}

/**
 * Compares the columns of a table with those of our blocks. Additional columns are allowed: they get their defaults.
 * @param alter the start of a statement that changes the table
 */
export function compareColumns(columns: readonly TableColumn[], dialect: Dialect, alter: string): ColumnReport {
  const byName = new Map(columns.map((column) => [column.name, column]));
  const wanted = new Set(wireColumns.map(({ name }) => name));
  const others = columns.filter(({ name, kind }) => !wanted.has(name) && (kind === '' || kind === 'DEFAULT'));
  const problems: string[] = [];
  const losses: string[] = [];
  for (const wire of wireColumns) {
    const column = byName.get(wire.name);
    if (column === undefined) {
      problems.push(missing(wire.name, byName, others, alter));
    } else if (column.kind === 'MATERIALIZED' || column.kind === 'ALIAS') {
      problems.push(`computes ${wire.name} itself (${column.kind}): nothing can be inserted into it`);
    } else {
      const result = columnFit(wire, column.type, dialect);
      if (result.fit === 'refused') problems.push(`has ${wire.name} as ${column.type}, ${result.reason}`);
      if (result.fit === 'lossy') losses.push(`has ${wire.name} as ${column.type}, ${result.reason}`);
    }
  }
  return { problems, losses };
}

/** The problem of a missing column with the statement that fixes it: a RENAME, where another column looks like it. */
function missing(name: string, byName: ReadonlyMap<string, TableColumn>, others: readonly TableColumn[], alter: string): string {
  const nested = byName.get(name.split('.')[0]);
  if (name.includes('.') && nested !== undefined)
    return `has no column ${name}, as ${nested.name} is one column: it was created with flatten_nested = 0`;
  const { type } = spans.columns.find((column) => column.name === name)!;
  const alike =
    others.find((other) => normalizedName(other.name) === normalizedName(name)) ??
    onlyOneOf(others.filter((other) => plainType(other.type) === plainType(type)));
  if (alike === undefined) return `has no column ${name} (${alter} ADD COLUMN ${quote(name)} ${type})`;
  const rename = `${alter} RENAME COLUMN ${quote(alike.name)} TO ${quote(name)}`;
  return `has no column ${name}: if it is now called ${alike.name}, ${rename}; else ${alter} ADD COLUMN ${quote(name)} ${type}`;
}

function normalizedName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '');
}

function onlyOneOf<T>(list: readonly T[]): T | undefined {
  return list.length === 1 ? list[0] : undefined;
}
