import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import { loadConfig } from '../config/load-config.ts';
import { serverName } from '../config/server-url.ts';
import type { Config } from '../config/variables.ts';
import {
  backfillStatements,
  createStatements,
  DEDUPLICATION_WINDOW,
  DEFAULT_TTL_DAYS,
  SCHEMA_VERSION,
  type SchemaOptions,
} from '../schema/schema.ts';
import { layouts, type LayoutName } from '../schema/tables.ts';
import { createClickHouseClient } from '../storage/clickhouse.ts';
import { differences, installedVersion, shardDifferences, type Difference } from '../storage/schema-differences.ts';
import { checkTable } from '../storage/table-check.ts';
import { parseCommandLine, print, UsageError } from './terminal.ts';

const HELP = `Creates, updates and checks the tables in ClickHouse.

npm run --silent schema -- print [options]
    Prints the statements that create the tables and views. Needs no ClickHouse.

npm run schema -- apply [options]
    Creates what is missing, and updates what an earlier version of this collector created. Does not change tables and views
    that something else created, but prints how they differ. Exit code 1 if a difference remains.

npm run schema -- check [options]
    Prints one line per difference from the options. Exit code 1 if there is one. With --distributed, it also compares the
    columns on the cluster's other servers.

npm run --silent schema -- backfill --layout hive --from TIME --to TIME
    Prints statements that rebuild the rows of otel_traces_normalized from the spans of that time. TIME is in UTC, as
    'YYYY-MM-DD hh:mm:ss'.

The environment names the server as for the collector: CLICKHOUSE_URL (or CLICKHOUSE_HOST and so on), CLICKHOUSE_USERNAME,
CLICKHOUSE_PASSWORD, CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE. With several servers in CLICKHOUSE_URL, apply and check handle one after
the other. Use the same options for all commands:

  --layout NAME           spans: the table of spans (default with ROW_DIALECT=hive)
                          otelcol: as clickhouseexporter creates it, with a look-up by trace id (default with otelcol)
                          hive: as Hive's migrations create it, with the GraphQL requests that Hive lists
  --ttl-days N            days until spans are dropped; 0: never (default ${DEFAULT_TTL_DAYS} for new tables). If given, apply
                          also sets it on existing tables, including those that something else created
  --deduplication-window N  number of inserts that ClickHouse remembers for deduplication (default ${DEDUPLICATION_WINDOW}).
                          If given, it is also set on existing tables
  --allow-differences     exit code 0 despite differences that apply does not change, if the collector can insert
  --replicated            ReplicatedMergeTree instead of MergeTree
  --replica-path PATH     path in Keeper (default /clickhouse/tables/{shard}/{database}/{table})
  --replica-name NAME     name of the replica (default {replica})
  --on-cluster NAME       run every statement ON CLUSTER
  --distributed CLUSTER   a Distributed table over the shards of a cluster; the tables on the shards end in _local
`;

/** The schema is of a newer version, so this collector must not change it. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError';
}

const COMMANDS = ['print', 'apply', 'check', 'backfill'] as const;
const commands = { apply, check };

/**
 * Runs a command line and returns the exit code: 1 if a difference remains, else 0.
 * @throws UsageError, ConfigError, SchemaError, ClickHouseError or a network error
 */
export async function runSchema(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const { values, positionals } = parse(args);
  if (values.help || args.length === 0) {
    print(HELP);
    return 0;
  }
  const [command, ...rest] = positionals;
  if (!isCommand(command)) throw new UsageError(`Unknown command: ${command}. Commands: ${COMMANDS.join(', ')}; see --help.`);
  if (rest.length > 0) throw new UsageError(`Unexpected argument: ${rest[0]}; see --help.`);
  const prints = command === 'print' || command === 'backfill';
  // Only the settings of ClickHouse are required, and not even those to print statements.
  const noClickHouse = prints && !env.CLICKHOUSE_URL && !env.CLICKHOUSE_URL_FILE && !env.CLICKHOUSE_HOST;
  const config = loadConfig({ ...env, DISABLE_AUTH: 'true', ...(noClickHouse && { CLICKHOUSE_HOST: 'localhost' }) });
  const options = optionsFrom(values, config);
  if (prints) return printStatements(command === 'print' ? createStatements(options) : backfill(options, values));
  const codes: number[] = [];
  for (const url of config.CLICKHOUSE_URL) {
    if (config.CLICKHOUSE_URL.length > 1) print(`${serverName(url)}\n`);
    codes.push(await onServer(createClickHouseClient(config, url), command, options, values['allow-differences'] ? config : undefined));
  }
  return Math.max(...codes);
}

function isCommand(command: string): command is (typeof COMMANDS)[number] {
  return (COMMANDS as readonly string[]).includes(command);
}

/**
 * Runs a command on one server and closes the client.
 * @param tolerant the collector's configuration, if differences that `apply` leaves alone are allowed as long as the collector can insert
 * @returns the exit code: 1 if a difference remains that is not allowed
 */
async function onServer(
  client: ClickHouseClient,
  command: 'apply' | 'check',
  options: SchemaOptions,
  tolerant: Config | undefined,
): Promise<number> {
  try {
    const left = await commands[command](client, options);
    if (left.length === 0) return 0;
    const allowed = tolerant !== undefined && left.every(({ kind }) => kind !== 'change') && (await canInsert(client, tolerant));
    return allowed ? 0 : 1;
  } finally {
    await client.close();
  }
}

/** Whether the collector can insert into the table as it is. Prints the result, with the reason if not. */
async function canInsert(client: ClickHouseClient, config: Config): Promise<boolean> {
  try {
    await checkTable(client, { ...config, CLICKHOUSE_CREATE_SCHEMA: false }, false);
    print('The collector can insert: the differences are allowed (--allow-differences).\n');
    return true;
  } catch (error) {
    print(`The collector can't insert: ${(error as Error).message}\n`);
    return false;
  }
}

function printStatements(statements: readonly string[]): number {
  for (const statement of statements) print(`${statement};\n\n`);
  return 0;
}

function backfill(options: SchemaOptions, { from, to }: ReturnType<typeof parse>['values']): readonly string[] {
  if (options.layout !== 'hive') throw new UsageError('backfill needs --layout hive.');
  return backfillStatements(options, timeOf('--from', from), timeOf('--to', to));
}

function timeOf(flag: string, given: string | undefined): string {
  const isTime =
    given !== undefined && /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/.test(given) && !Number.isNaN(Date.parse(`${given.replace(' ', 'T')}Z`));
  if (!isTime) throw new UsageError(`${flag} is ${given ?? 'not set'}. Allowed: a time in UTC, 'YYYY-MM-DD hh:mm:ss'.`);
  return given;
}

/** Applies all differences that can be changed. @returns those that remain @throws SchemaError */
async function apply(client: ClickHouseClient, options: SchemaOptions): Promise<readonly Difference[]> {
  const version = await installedVersion(client, options);
  if (version !== undefined && version > SCHEMA_VERSION) {
    throw new SchemaError(
      `The schema has version ${version}, from a newer collector; this collector knows version ${SCHEMA_VERSION}. Nothing was changed.`,
    );
  }
  const found = await differences(client, options);
  for (const difference of found) {
    if (difference.kind !== 'change') continue;
    await client.command({ query: difference.statement });
    print(`${difference.what}: ${difference.statement.startsWith('CREATE') ? 'created' : 'changed'}\n`);
  }
  const left = await differences(client, options);
  for (const difference of left) print(leftAlone(difference));
  if (found.length === 0) print('Nothing to do.\n');
  return left;
}

async function check(client: ClickHouseClient, options: SchemaOptions): Promise<readonly Difference[]> {
  const found = [...(await differences(client, options)), ...(await differencesOnOtherServers(client, options))];
  for (const difference of found)
    print(difference.kind === 'change' ? `${difference.what}: apply would run\n${indented(difference.statement)}` : leftAlone(difference));
  if (found.length === 0) print(`The schema is up to date (version ${SCHEMA_VERSION}).\n`);
  return found;
}

function leftAlone(difference: Difference): string {
  if (difference.kind !== 'yours') return `${difference.what}: can't be changed in place\n`;
  return `${difference.what}: apply does not change it\n${difference.notes.map(indented).join('')}`;
}

function indented(text: string): string {
  return `    ${text.replaceAll('\n', '\n    ')}\n`;
}

/** The differences on other servers of the cluster, where `apply` must be run too. If they can't be queried, it prints why. */
async function differencesOnOtherServers(client: ClickHouseClient, options: SchemaOptions): Promise<readonly Difference[]> {
  try {
    return await shardDifferences(client, options);
  } catch (error) {
    if (!(error instanceof ClickHouseError)) throw error;
    print(`The other servers of ${options.distributed} are not compared: ${error.message}\n`);
    return [];
  }
}

function parse(args: readonly string[]) {
  return parseCommandLine(args, {
    layout: { type: 'string' },
    'ttl-days': { type: 'string' },
    'deduplication-window': { type: 'string' },
    replicated: { type: 'boolean', default: false },
    'replica-path': { type: 'string' },
    'replica-name': { type: 'string' },
    'on-cluster': { type: 'string' },
    distributed: { type: 'string' },
    'allow-differences': { type: 'boolean', default: false },
    from: { type: 'string' },
    to: { type: 'string' },
  });
}

function optionsFrom(values: ReturnType<typeof parse>['values'], config: Config): SchemaOptions {
  const layout = values.layout ?? (config.ROW_DIALECT === 'otelcol' ? 'otelcol' : 'spans');
  if (!Object.hasOwn(layouts, layout)) throw new UsageError(`--layout is ${layout}. Allowed: ${Object.keys(layouts).join(', ')}.`);
  if (!values.replicated && (values['replica-path'] ?? values['replica-name']) !== undefined)
    throw new UsageError('--replica-path and --replica-name need --replicated.');
  return {
    database: config.CLICKHOUSE_DATABASE,
    table: config.CLICKHOUSE_TABLE,
    layout: layout as LayoutName,
    ttlDays: wholeNumber('--ttl-days', values['ttl-days'], 0, 36_500),
    deduplicationWindow: wholeNumber('--deduplication-window', values['deduplication-window'], 1, 1_000_000),
    replicated: values.replicated ? replica(values['replica-path'], values['replica-name']) : undefined,
    onCluster: name('--on-cluster', values['on-cluster']),
    distributed: name('--distributed', values.distributed),
  };
}

function replica(givenPath: string | undefined, givenName: string | undefined): SchemaOptions['replicated'] {
  const path = name('--replica-path', givenPath) ?? '/clickhouse/tables/{shard}/{database}/{table}';
  if (!/\{(table|uuid)\}/.test(path))
    throw new UsageError(`--replica-path is ${path}. Allowed: a path with {table} or {uuid} in it, as each table needs its own.`);
  return { path, name: name('--replica-name', givenName) ?? '{replica}' };
}

function wholeNumber(flag: string, given: string | undefined, min: number, max: number): number | undefined {
  if (given === undefined) return undefined;
  const value = Number(given);
  if (!/^\d+$/.test(given) || value < min || value > max)
    throw new UsageError(`${flag} is ${given}. Allowed: a whole number from ${min} to ${max}.`);
  return value;
}

/** Validates a name or path that is quoted in statements. It may contain ClickHouse's macros, as {cluster}. @throws UsageError */
function name(flag: string, given: string | undefined): string | undefined {
  if (given !== undefined && !/^[\w{}/.-]+$/.test(given))
    throw new UsageError(`${flag} is ${JSON.stringify(given)}. Allowed: letters, digits, _ - . / and macros in {}.`);
  return given;
}
