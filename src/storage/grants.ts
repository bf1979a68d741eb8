import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { defaultOptions, qualified, quote, schemaObjects } from '../schema/schema.ts';
import { wireColumns } from '../transcode/columns/native-block.ts';
import { distributedTable, isShardItself } from './distributed-table.ts';
import { INSERT_COLUMNS } from './insert.ts';
import { engineOf } from './table-engine.ts';
import { dependentViews, type DependentView, type TableName } from './views.ts';

/*
 * The grants that an insert needs in addition to INSERT on the table. ClickHouse checks these only while the insert is running:
 *
 *   otel_traces ──▶ view without SQL SECURITY  the inserting user needs SELECT on the columns that the view reads. Checked when rows
 *       │                                      reach the view, which may be after they are written to the table.
 *       │      ──▶ view with SQL SECURITY      the definer's grants apply, or none: the inserting user needs no more.
 *       ▼
 *   otel_traces_local, of a Distributed table: if this server is a shard itself, the inserting user needs INSERT there, and the same
 *                      for the views behind it.
 *
 * So all of them are checked in advance, with EXPLAIN of the insert and of the view's query: it requires the same grants, and has no
 * effect. It needs no recent ClickHouse (CHECK GRANT came in 2024) and no further grants.
 */

/** The code of ClickHouse's exception for a missing grant. */
export const ACCESS_DENIED = '497';

/** A row for an insert that is explained, not executed. */
const DEFAULTS = wireColumns.map(({ type }) => `defaultValueOfTypeName('${type}')`).join(', ');

/** Grants that a user lacks, as in ClickHouse's message. */
export interface Denial {
  readonly user: string;
  /** Each as GRANT takes it: `SELECT(a, b) ON db.table`. */
  readonly grants: readonly string[];
}

/** A name as ClickHouse quotes it, with a backslash before each backtick in it. */
const QUOTED = String.raw`\`(?:[^\\\`]|\\.)*\``;
const DENIED = new RegExp(
  String.raw`(?:^|Exception: )([^\s:]+): Not enough privileges\. To execute this query, it's necessary to have (?:the )?grant ` +
    String.raw`((?:${QUOTED}|[^\`])+? ON (?:${QUOTED}|[^\s\`:.]|\.(?=[\w\`*]))+)`,
  's',
);
const MISSING = new RegExp(String.raw`\(Missing permissions: ((?:${QUOTED}|\((?:${QUOTED}|[^\`()])*\)|[^\`()])+)\)`, 's');
const GRANT = new RegExp(String.raw`((?:${QUOTED}|[^\`])+? ON (?:${QUOTED}|[^\s\`,])+)(?:, |$)`, 'gs');
/** Captures the columns and the table of a SELECT grant. */
const SELECT_GRANT = /^SELECT\((.+?)\) ON (.+)$/s;

/** Parses the message of exception 497 (ACCESS_DENIED). @returns undefined for any other text */
export function denialOf(message: string): Denial | undefined {
  const [, user, whole] = DENIED.exec(message) ?? [];
  if (user === undefined) return undefined;
  const [, missing] = MISSING.exec(message) ?? [];
  return { user, grants: missing === undefined ? [whole] : splitGrants(missing) };
}

/** Splits `SELECT(a, b) ON x, INSERT ON y` at the commas after the tables. */
function splitGrants(list: string): string[] {
  return Array.from(list.matchAll(GRANT), ([, grant]) => grant);
}

/** The GRANT statements for what is missing, separated by `; `. */
export function grantStatements(denials: readonly Denial[]): string {
  return [...Map.groupBy(denials, ({ user }) => user)]
    .map(([user, ofUser]) =>
      merged(ofUser.flatMap(({ grants }) => grants))
        .map((grant) => `GRANT ${grant} TO ${quote(user)}`)
        .join('; '),
    )
    .join('; ');
}

/** Merges SELECT grants on the same table into one: each view reads other columns. */
function merged(grants: readonly string[]): string[] {
  const columns = new Map<string, Set<string>>();
  const others = new Set<string>();
  for (const grant of grants) {
    const [, list, table] = SELECT_GRANT.exec(grant) ?? [];
    if (table === undefined) others.add(grant);
    else for (const column of list.split(', ')) columns.set(table, (columns.get(table) ?? new Set()).add(column));
  }
  return [...others, ...[...columns].map(([table, names]) => `SELECT(${[...names].join(', ')}) ON ${table}`)];
}

/** The grants that are missing, and what could not be checked. */
export interface GrantReport {
  readonly denials: readonly Denial[];
  /** The views whose queries need the missing grants. */
  readonly views: readonly DependentView[];
  /** Views that the user may not see, so that their queries are unknown. */
  readonly hidden: readonly DependentView[];
}

/**
 * Finds the grants that the user lacks for an insert: on the table, on the views that depend on it, and on the local table of a
 * Distributed one. What ClickHouse does not show (the grants of a view's definer, those on other shards) is found by the insert only.
 * @throws ClickHouseError or a network error
 */
export async function findMissingGrants(client: ClickHouseClient, config: Config): Promise<GrantReport> {
  const search = new GrantSearch(client, config);
  await search.insertInto({ database: config.CLICKHOUSE_DATABASE, table: config.CLICKHOUSE_TABLE }, true);
  return search;
}

/** Whether a SELECT grant that an insert was refused for is still missing. Other grants can't be checked, and count as given. */
export async function isStillDenied(client: ClickHouseClient, { grants }: Denial): Promise<boolean> {
  for (const grant of grants) {
    const [, columns, table] = SELECT_GRANT.exec(grant) ?? [];
    if (table !== undefined && (await denialFor(client, `EXPLAIN SELECT ${columns} FROM ${table}`)) !== undefined) return true;
  }
  return false;
}

class GrantSearch implements GrantReport {
  readonly denials: Denial[] = [];
  readonly views: DependentView[] = [];
  readonly hidden: DependentView[] = [];
  private readonly client: ClickHouseClient;
  private readonly config: Config;
  private readonly seen = new Set<string>();

  constructor(client: ClickHouseClient, config: Config) {
    this.client = client;
    this.config = config;
  }

  /** @param asked whether ClickHouse requires INSERT on this table: it does not where a view without SQL SECURITY writes */
  async insertInto(table: TableName, asked: boolean): Promise<void> {
    const key = qualified(table, table.table);
    if (this.seen.has(key)) return;
    this.seen.add(key);
    if (asked)
      this.add(
        await denialFor(
          this.client,
          `EXPLAIN PIPELINE INSERT INTO ${qualified(table, table.table)} (${INSERT_COLUMNS}) SELECT ${DEFAULTS}`,
        ),
      );
    for (const view of await dependentViews(this.client, table)) await this.runView(view, table);
    const engine = await engineOf(this.client, table);
    if (engine?.engine !== 'Distributed') return;
    const distributed = distributedTable(engine.engineFull);
    if (await ifAllowed(isShardItself(this.client, distributed))) await this.insertInto(distributed, true);
  }

  private async runView(view: DependentView, source: TableName): Promise<void> {
    const { definition } = view;
    if (definition === undefined) return this.runHiddenView(view, source);
    // Everything behind the view runs with the definer's grants, too.
    if (definition.security !== 'INVOKER') return;
    if (this.add(await denialFor(this.client, `EXPLAIN ${definition.select}`))) this.views.push(view);
    await this.insertInto(definition.target, false);
  }

  private async runHiddenView(view: DependentView, source: TableName): Promise<void> {
    if ((await denialFor(this.client, `EXPLAIN SELECT * FROM ${qualified(source, source.table)}`)) === undefined) return;
    const select = this.ownView(view, source);
    if (select === undefined) this.hidden.push(view);
    else if (this.add(await denialFor(this.client, `EXPLAIN ${select}`))) this.views.push(view);
  }

  /** The query of a view whose name is one of our schema's. */
  private ownView({ database, name }: DependentView, source: TableName): string | undefined {
    const { CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE: table } = this.config;
    if (database !== CLICKHOUSE_DATABASE) return undefined;
    const distributed = source.table === table ? undefined : 'any';
    const own = schemaObjects({ ...defaultOptions, database, table, layout: 'hive', distributed }).find(
      (object) => object.kind === 'view' && object.name === name,
    );
    return own?.kind === 'view' ? own.select : undefined;
  }

  private add(denial: Denial | undefined): boolean {
    if (denial !== undefined) this.denials.push(denial);
    return denial !== undefined;
  }
}

/** The grants missing for an EXPLAIN statement; undefined if none is. Other exceptions are ignored here: the insert will raise them. */
async function denialFor(client: ClickHouseClient, query: string): Promise<Denial | undefined> {
  try {
    // With subcolumns, the message would name these instead of the columns.
    const answer = await client.query({ query, format: 'TabSeparated', clickhouse_settings: { optimize_functions_to_subcolumns: 0 } });
    await answer.text();
    return undefined;
  } catch (error) {
    if (!(error instanceof ClickHouseError)) throw error;
    return error.code === ACCESS_DENIED ? denialOf(error.message) : undefined;
  }
}

async function ifAllowed<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ClickHouseError) return undefined;
    throw error;
  }
}
