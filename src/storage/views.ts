import type { ClickHouseClient } from '@clickhouse/client';
import { unquote } from '../schema/schema.ts';
import { select } from './select.ts';

const PRINTED_NAME = String.raw`\`(?:[^\\\`]|\\.)+\`|[^\s.(\`]+`;
/** Where a materialized view writes to, after its own name. Either may be any name, also one with ` TO ` in it. */
const VIEW_TARGET = new RegExp(
  String.raw`^CREATE MATERIALIZED VIEW (?:(?:${PRINTED_NAME})\.)?(?:${PRINTED_NAME})[^\`(]*? TO (${PRINTED_NAME})(?:\.(${PRINTED_NAME}))?`,
  's',
);

export interface TableName {
  readonly database: string;
  readonly table: string;
}

/** A materialized view that runs when rows are inserted into a table. */
export interface DependentView {
  readonly database: string;
  readonly name: string;
  /** Undefined if the user is not shown the view: only its name is known then. */
  readonly definition?: {
    readonly select: string;
    /** Whose rights it runs with: those of whoever inserts, if it has no SQL SECURITY. */
    readonly security: 'INVOKER' | 'DEFINER' | 'NONE';
    /** The table that it writes to. */
    readonly target: TableName;
  };
}

/** The views that run when rows are inserted into this table. Views behind their targets are not among them. @throws what ClickHouse says */
export async function dependentViews(client: ClickHouseClient, { database, table }: TableName): Promise<readonly DependentView[]> {
  const names = await select<{ viewDatabase: string; viewName: string }>(
    client,
    `SELECT dependency.1 AS viewDatabase, dependency.2 AS viewName FROM system.tables ARRAY JOIN arrayZip(dependencies_database, dependencies_table) AS dependency
     WHERE database = {database:String} AND name = {table:String}`,
    { database, table },
  );
  if (names.length === 0) return [];
  const shown = await select<{ database: string; name: string; uuid: string; as_select: string; create_table_query: string }>(
    client,
    `SELECT database, name, toString(uuid) AS uuid, as_select, create_table_query FROM system.tables
     WHERE engine = 'MaterializedView' AND (database, name) IN (
       SELECT dependency.1, dependency.2 FROM system.tables ARRAY JOIN arrayZip(dependencies_database, dependencies_table) AS dependency
       WHERE database = {database:String} AND name = {table:String})`,
    { database, table },
  );
  return names.map(({ viewDatabase, viewName: name }) => {
    const view = shown.find((one) => one.database === viewDatabase && one.name === name);
    if (view === undefined) return { database: viewDatabase, name };
    const head = view.create_table_query.replace(view.as_select, '');
    const [, security = 'INVOKER'] = / SQL SECURITY (DEFINER|NONE|INVOKER)\b/.exec(head) ?? [];
    return {
      database: viewDatabase,
      name,
      definition: { select: view.as_select, security: security as 'INVOKER' | 'DEFINER' | 'NONE', target: targetOf(view) },
    };
  });
}

function targetOf(view: { database: string; uuid: string; create_table_query: string }): TableName {
  const [, first, second] = VIEW_TARGET.exec(view.create_table_query) ?? [];
  if (first === undefined) return { database: view.database, table: `.inner_id.${view.uuid}` };
  return second === undefined ? { database: view.database, table: unquote(first) } : { database: unquote(first), table: unquote(second) };
}
