import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import { loadConfig } from '../config/load-config.ts';
import { serverName } from '../config/server-url.ts';
import type { Config } from '../config/variables.ts';
import { createClickHouseClient } from '../storage/clickhouse.ts';
import { parseCommandLine, print, UsageError } from '../tools/terminal.ts';
import { differences, installedVersion, shardDifferences, type Difference } from './differences.ts';
import { createStatements, DEFAULT_TTL_DAYS, defaultOptions, SCHEMA_VERSION, type SchemaOptions } from './schema.ts';
import { layouts, type LayoutName } from './tables.ts';

export const usage = `The tables that spans are stored in.

npm run --silent schema -- print [options]
    The statements that create everything, to read, or to run elsewhere. Needs no ClickHouse.

npm run schema -- apply [options]
    Creates what is missing and changes what can be changed in place. Run again, it finds nothing to do.

npm run schema -- check [options]
    A line for each thing that is not as the options say, and exit code 1 if there is one. With --distributed, columns are
    compared on the cluster's other servers too.

Where: CLICKHOUSE_URL (or CLICKHOUSE_HOST and so on), CLICKHOUSE_USERNAME, CLICKHOUSE_PASSWORD, CLICKHOUSE_DATABASE and
CLICKHOUSE_TABLE, as for the collector. Of several servers in CLICKHOUSE_URL, one after the other. Give all three commands the same options:

  --layout NAME           spans: the table of spans (default with ROW_DIALECT=hive)
                          otelcol: what clickhouseexporter creates, a look-up by trace id beside it (default with otelcol)
                          hive: what Hive's migrations create, the roots of traces beside those
  --ttl-days N            days until spans are dropped; 0 keeps them (default ${DEFAULT_TTL_DAYS} for new tables; others keep theirs)
  --deduplication-window N  inserts remembered, so that a retry is stored once (default ${defaultOptions.deduplicationWindow})
  --replicated            ReplicatedMergeTree instead of MergeTree
  --replica-path PATH     its path in Keeper (default /clickhouse/tables/{shard}/{database}/{table})
  --replica-name NAME     the replica's name (default {replica})
  --on-cluster NAME       run every statement ON CLUSTER
  --distributed CLUSTER   a Distributed table over the shards of a cluster; their own tables end in _local
`;

/** A schema that this collector must not touch. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError';
}

const commands = { apply, check };

/**
 * Runs a command line and returns the exit code.
 * @throws UsageError, ConfigError, SchemaError, or what ClickHouse says
 */
export async function runSchemaCommand(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const { values, positionals } = parse(args);
  if (values.help || args.length === 0) {
    print(usage);
    return 0;
  }
  const [command, ...rest] = positionals;
  if (command !== 'print' && command !== 'apply' && command !== 'check') throw new UsageError(`There is no command ${command}. There are print, apply and check; see --help.`);
  if (rest.length > 0) throw new UsageError(`${rest[0]} is one argument too many; see --help.`);
  // Nothing of the collector but ClickHouse is needed, and to print not even that.
  const noClickHouse = command === 'print' && !env.CLICKHOUSE_URL && !env.CLICKHOUSE_URL_FILE && !env.CLICKHOUSE_HOST;
  const config = loadConfig({ ...env, DISABLE_AUTH: 'true', ...(noClickHouse && { CLICKHOUSE_HOST: 'localhost' }) });
  const options = optionsFrom(values, config);
  if (command === 'print') return printStatements(options);
  const codes: number[] = [];
  for (const url of config.CLICKHOUSE_URL) {
    if (config.CLICKHOUSE_URL.length > 1) print(`${serverName(url)}\n`);
    codes.push(await onServer(createClickHouseClient(config, url), command, options));
  }
  return Math.max(...codes);
}

async function onServer(client: ClickHouseClient, command: 'apply' | 'check', options: SchemaOptions): Promise<number> {
  try {
    return await commands[command](client, options);
  } finally {
    await client.close();
  }
}

function printStatements(options: SchemaOptions): number {
  for (const statement of createStatements(options)) print(`${statement};\n\n`);
  return 0;
}

async function apply(client: ClickHouseClient, options: SchemaOptions): Promise<number> {
  const version = await installedVersion(client, options);
  if (version !== undefined && version > SCHEMA_VERSION) {
    throw new SchemaError(`The schema is of version ${version}, made by a newer collector; this one knows ${SCHEMA_VERSION}. Nothing was changed.`);
  }
  const found = await differences(client, options);
  for (const { what, statement } of found) {
    if (statement === undefined) continue;
    await client.command({ query: statement });
    print(`${what}: ${statement.startsWith('CREATE') ? 'created' : 'changed'}\n`);
  }
  const left = await differences(client, options);
  for (const { what } of left) print(`${what}: can't be changed in place\n`);
  if (found.length === 0) print('Nothing to do.\n');
  return left.length === 0 ? 0 : 1;
}

async function check(client: ClickHouseClient, options: SchemaOptions): Promise<number> {
  const found = [...(await differences(client, options)), ...(await elsewhere(client, options))];
  for (const { what, statement } of found) print(statement === undefined ? `${what}: can't be changed in place\n` : `${what}: apply would run\n    ${statement.replaceAll('\n', '\n    ')}\n`);
  if (found.length === 0) print(`The schema is as it should be (version ${SCHEMA_VERSION}).\n`);
  return found.length === 0 ? 0 : 1;
}

/** On other servers of the cluster, where `apply` has to be run too. What can't be asked is said, and no difference. */
async function elsewhere(client: ClickHouseClient, options: SchemaOptions): Promise<readonly Difference[]> {
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
  });
}

function optionsFrom(values: ReturnType<typeof parse>['values'], config: Config): SchemaOptions {
  const layout = values.layout ?? (config.ROW_DIALECT === 'otelcol' ? 'otelcol' : 'spans');
  if (!Object.hasOwn(layouts, layout)) throw new UsageError(`--layout is ${layout}. Allowed: ${Object.keys(layouts).join(', ')}.`);
  if (!values.replicated && (values['replica-path'] ?? values['replica-name']) !== undefined) throw new UsageError('--replica-path and --replica-name go with --replicated.');
  return {
    database: config.CLICKHOUSE_DATABASE,
    table: config.CLICKHOUSE_TABLE,
    layout: layout as LayoutName,
    ttlDays: wholeNumber('--ttl-days', values['ttl-days'], 0, 36_500),
    deduplicationWindow: wholeNumber('--deduplication-window', values['deduplication-window'], 1, 1_000_000) ?? defaultOptions.deduplicationWindow,
    replicated: values.replicated ? replica(values['replica-path'], values['replica-name']) : undefined,
    onCluster: name('--on-cluster', values['on-cluster']),
    distributed: name('--distributed', values.distributed),
  };
}

function replica(givenPath: string | undefined, givenName: string | undefined): SchemaOptions['replicated'] {
  const path = name('--replica-path', givenPath) ?? '/clickhouse/tables/{shard}/{database}/{table}';
  if (!/\{(table|uuid)\}/.test(path)) throw new UsageError(`--replica-path is ${path}. Allowed: a path with {table} or {uuid} in it, as each table needs its own.`);
  return { path, name: name('--replica-name', givenName) ?? '{replica}' };
}

function wholeNumber(flag: string, given: string | undefined, min: number, max: number): number | undefined {
  if (given === undefined) return undefined;
  const value = Number(given);
  if (!/^\d+$/.test(given) || value < min || value > max) throw new UsageError(`${flag} is ${given}. Allowed: a whole number from ${min} to ${max}.`);
  return value;
}

/** It goes into statements between quotes. Macros, as {cluster}, are ClickHouse's. */
function name(flag: string, given: string | undefined): string | undefined {
  if (given !== undefined && !/^[\w{}/.-]+$/.test(given)) throw new UsageError(`${flag} is ${JSON.stringify(given)}. Allowed: letters, digits, _ - . / and macros in {}.`);
  return given;
}
