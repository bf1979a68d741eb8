import type { ClickHouseClient } from '@clickhouse/client';
import { unquote } from '../schema/schema.ts';
import { select } from './select.ts';

const PRINTED_NAME = String.raw`\`(?:[^\\\`]|\\.)+\`|[^\s.(\`]+`;
/** Captures the target table of a materialized view. Names may contain any characters, also ` TO `. */
const VIEW_TARGET = new RegExp(
  String.raw`^CREATE MATERIALIZED VIEW (?:(?:${PRINTED_NAME})\.)?(?:${PRINTED_NAME})[^\`(]*? TO (${PRINTED_NAME})(?:\.(${PRINTED_NAME}))?`,
  's',
);

/** The unquoted name of a table or view. */
export interface TableName {
  readonly database: string;
  readonly table: string;
}

/** A materialized view that runs when rows are inserted into a table. */
export interface DependentView {
  readonly database: string;
  readonly name: string;
  /** Undefined if the user may not see the view: then only its name is known. */
  readonly definition?: {
    readonly select: string;
    /** Whose grants the view needs: the inserting user's (INVOKER, the default), its definer's, or no grants (NONE). */
    readonly security: 'INVOKER' | 'DEFINER' | 'NONE';
    /** The table that the view writes to. */
    readonly target: TableName;
  };
}

/**
 * The views that run when rows are inserted into this table, without those behind their target tables.
 * @throws ClickHouseError or a network error
 */
export async function dependentViews(client: ClickHouseClient, { database, table }: TableName): Promise<readonly DependentView[]> {
  const names = await select<{ viewDatabase: string; viewName: string }>(
    client,
    `SELECT dependency.1 AS viewDatabase, dependency.2 AS viewName
     FROM system.tables ARRAY JOIN arrayZip(dependencies_database, dependencies_table) AS dependency
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
