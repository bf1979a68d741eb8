import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { defaultOptions, qualified, quote, schemaObjects } from '../schema/schema.ts';
import { wireColumns } from '../transcode/columns/native-block.ts';
import { distributedTable, isShardItself } from './distributed-table.ts';
import { INSERT_COLUMNS } from './insert.ts';
import { engineOf } from './table-engine.ts';
import { dependentViews, type DependentView, type TableName } from './views.ts';

/*
 * What an insert takes beside INSERT on the table. ClickHouse finds out when it is half done:
 *
 *   otel_traces ──▶ view without SQL SECURITY  SELECT of the columns that it reads, by whoever inserts. Asked for when rows reach the
 *       │                                      view, which may be after they are written to the table.
 *       │      ──▶ view with SQL SECURITY      the definer's rights, or none: not ours to have.
 *       ▼
 *   otel_traces_local, of a Distributed table: if this server is a shard itself, INSERT by whoever inserts, and so on from there.
 *
 * So each of these is asked for before, by EXPLAIN of the insert and of what the view reads: it asks for the same grants, and does
 * nothing. That needs neither a newer ClickHouse (CHECK GRANT is of 2024) nor further grants.
 */

export const ACCESS_DENIED = '497';

/** A row for an insert that is only explained. */
const DEFAULTS = wireColumns.map(({ type }) => `defaultValueOfTypeName('${type}')`).join(', ');

/** Grants that somebody lacks, as ClickHouse says it. */
export interface Denial {
  readonly user: string;
  /** Each as GRANT takes it: `SELECT(a, b) ON db.table`. */
  readonly grants: readonly string[];
}

/** A name as ClickHouse quotes it, with a backslash before each backtick in it. */
const QUOTED = String.raw`\`(?:[^\\\`]|\\.)*\``;
const DENIED = new RegExp(
  String.raw`(?:^|Exception: )([^\s:]+): Not enough privileges\. To execute this query, it's necessary to have (?:the )?grant ((?:${QUOTED}|[^\`])+? ON (?:${QUOTED}|[^\s\`:.]|\.(?=[\w\`*]))+)`,
  's',
);
const MISSING = new RegExp(String.raw`\(Missing permissions: ((?:${QUOTED}|\((?:${QUOTED}|[^\`()])*\)|[^\`()])+)\)`, 's');
const GRANT = new RegExp(String.raw`((?:${QUOTED}|[^\`])+? ON (?:${QUOTED}|[^\s\`,])+)(?:, |$)`, 'gs');
/** Its columns, and the table. */
const SELECT_GRANT = /^SELECT\((.+?)\) ON (.+)$/s;

/** Reads ClickHouse's exception 497. @returns undefined for another text */
export function denialOf(message: string): Denial | undefined {
  const [, user, whole] = DENIED.exec(message) ?? [];
  if (user === undefined) return undefined;
  const [, missing] = MISSING.exec(message) ?? [];
  return { user, grants: missing === undefined ? [whole] : splitGrants(missing) };
}

/** `SELECT(a, b) ON x, INSERT ON y` at the commas behind the tables. */
function splitGrants(list: string): string[] {
  return Array.from(list.matchAll(GRANT), ([, grant]) => grant);
}

/** The statements that give what is missing, one for each user. */
export function grantStatements(denials: readonly Denial[]): string {
  return [...Map.groupBy(denials, ({ user }) => user)]
    .map(([user, ofUser]) =>
      merged(ofUser.flatMap(({ grants }) => grants))
        .map((grant) => `GRANT ${grant} TO ${quote(user)}`)
        .join('; '),
    )
    .join('; ');
}

/** Columns of the same table together: each view reads others. */
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

/** What the user lacks, and what could not be found out. */
export interface GrantReport {
  readonly denials: readonly Denial[];
  /** Views that they were found at. */
  readonly views: readonly DependentView[];
  /** Views that the user is not shown, so that nobody knows what they read. */
  readonly hidden: readonly DependentView[];
}

/**
 * Finds out whether the user may do all that an insert takes: at the table, and at what hangs on it. What ClickHouse does not
 * tell (whether a definer has its rights, what other shards say) is left to the insert.
 * @throws when ClickHouse can't be asked
 */
export async function findMissingGrants(client: ClickHouseClient, config: Config): Promise<GrantReport> {
  const search = new GrantSearch(client, config);
  await search.insertInto({ database: config.CLICKHOUSE_DATABASE, table: config.CLICKHOUSE_TABLE }, true);
  return search;
}

/** Whether what an insert was refused for is still missing; what can't be asked without an insert is taken for given. */
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

  /** @param asked whether ClickHouse asks for INSERT there: it does not where a view without SQL SECURITY writes */
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
    // All behind it runs with those rights, too.
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

  /** What a view of our own schema reads, by its name. */
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

/** Of a statement that only says what it would do. Whatever else is wrong, the insert will say. */
async function denialFor(client: ClickHouseClient, query: string): Promise<Denial | undefined> {
  try {
    // Parts of a column have names of their own, which nobody is granted.
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
