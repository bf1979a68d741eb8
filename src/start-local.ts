import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { failToStart, startApp, stopOnSignal } from './app.ts';
import { parseProgramOptions } from './cli/terminal.ts';
import { collectorConfig } from './config/config.module.ts';
import { helpText } from './config/help.ts';
import { ConfigError, loadConfig } from './config/load-config.ts';
import { port } from './config/variable.ts';
import { serverName } from './config/server-url.ts';
import type { Config } from './config/variables.ts';
import { version } from './config/version.ts';
import { RefusalLog } from './ingest/refusal-log.ts';
import { quote } from './schema/schema.ts';
import { readCredentials } from './storage/credentials.ts';
import {
  EmbeddedClickHouseError,
  keptPassword,
  LOCAL_USER,
  startEmbeddedClickHouse,
  type EmbeddedClickHouse,
} from './embedded/embedded-clickhouse.ts';
import { localModeOn, thisMachine } from './embedded/local-machine.ts';
import { RecentTraces } from './status/recent-traces.ts';
import { StorageService } from './storage/storage.service.ts';

/*
 * Local mode: the collector on 127.0.0.1, for a first try, with a ClickHouse of its own unless the environment names one. Everything
 * else is the same as in production, and every variable can be set.
 */

/** The message to a parent process that has forked this one. Without a parent, instructions are printed instead. */
export interface LocalMode {
  readonly collectorUrl: string;
  readonly adminUrl: string;
  /** The URL without credentials. */
  readonly clickhouseUrl: string;
  readonly clickhouseUser: string;
  readonly clickhousePassword: string;
  /** The argument of `curl -u`. With a password only if it is local mode's own or empty; otherwise curl prompts for it. */
  readonly clickhouseLogin: string;
  /** The table as database.table, quoted where necessary. */
  readonly table: string;
}

const DATA_DIR = resolve(process.env.LOCAL_DATA_DIR || 'data');
const MACHINE = localModeOn(thisMachine());
/** One folder each for the library and the server, as neither is meant to open the other's data. */
const CLICKHOUSE_FOLDER = MACHINE.clickhouse.kind === 'program' ? 'clickhouse-server' : 'clickhouse';
const LOCAL_DEFAULTS = {
  HOST: '127.0.0.1',
  DISABLE_AUTH: 'true',
  CLICKHOUSE_CREATE_SCHEMA: 'true',
  ENABLE_DISK_BUFFER: String(MACHINE.diskBuffer),
  DISK_BUFFER_DIR: resolve(DATA_DIR, 'disk-buffer'),
  DISK_BUFFER_MAX_SIZE_MB: '256',
  // The first span should be visible immediately.
  BATCH_TIMEOUT_MS: '100',
};

/** If one of these is set, local mode uses that ClickHouse and starts none. */
const CLICKHOUSE_VARIABLES = ['CLICKHOUSE_URL', 'CLICKHOUSE_URL_FILE', 'CLICKHOUSE_HOST'];
/** Without CLICKHOUSE_HOST, these name no server. */
const IGNORED_WITHOUT_HOST = ['CLICKHOUSE_PROTOCOL', 'CLICKHOUSE_PORT'];

/** The port of LOCAL_CLICKHOUSE_PORT, by default 8123. @throws ConfigError */
function clickHousePort(): number {
  const given = process.env.LOCAL_CLICKHOUSE_PORT || '8123';
  const { schema, allowed } = port(undefined, 'ClickHouse over HTTP.');
  const httpPort = schema.safeParse(given);
  if (!httpPort.success) throw new ConfigError([`LOCAL_CLICKHOUSE_PORT is ${JSON.stringify(given)}. Allowed: ${allowed}.`]);
  return httpPort.data;
}

async function startClickHouse(httpPort: number, password: string): Promise<EmbeddedClickHouse> {
  try {
    return await startEmbeddedClickHouse({ dataDir: resolve(DATA_DIR, CLICKHOUSE_FOLDER), httpPort, password });
  } catch (error) {
    if (!(error instanceof EmbeddedClickHouseError) || error.reason !== 'port-taken') throw error;
    throw new EmbeddedClickHouseError(
      error.reason,
      `${error.message} ClickHouse needs it: stop the other program, or set LOCAL_CLICKHOUSE_PORT to another port.`,
    );
  }
}

/** The variables that select local mode's own ClickHouse, whatever the environment has for them. */
function clickhouseSettings(url: string, password: string): NodeJS.ProcessEnv {
  return {
    CLICKHOUSE_URL: url,
    CLICKHOUSE_URL_FILE: '',
    CLICKHOUSE_USERNAME: LOCAL_USER,
    CLICKHOUSE_USERNAME_FILE: '',
    CLICKHOUSE_PASSWORD: password,
    CLICKHOUSE_PASSWORD_FILE: '',
  };
}

/** How to query the first server of the configuration. */
function clickHouseOf(
  config: Config,
  isOwn: boolean,
): Pick<LocalMode, 'clickhouseUrl' | 'clickhouseUser' | 'clickhousePassword' | 'clickhouseLogin'> {
  const url = new URL(config.CLICKHOUSE_URL[0]);
  const { username, password } = readCredentials(config);
  const user = decodeURIComponent(url.username) || username;
  const key = decodeURIComponent(url.password) || password;
  url.username = url.password = '';
  return {
    clickhouseUrl: url.href,
    clickhouseUser: user,
    clickhousePassword: key,
    clickhouseLogin: isOwn || key === '' ? `${user}:${key}` : user,
  };
}

/** A request with one span, in single quotes of a shell that has the time in nanoseconds as NOW. */
const FIRST_TRACE = `{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"hello"}}]},\
"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"my first span","kind":2,\
"startTimeUnixNano":"'$NOW'","endTimeUnixNano":"'$NOW'"}]}]}]}`;

/** The instructions on the terminal, with a request and a query to copy. */
function instructions({ collectorUrl, adminUrl, clickhouseUrl, clickhouseLogin, table }: LocalMode, isOwn: boolean): string {
  const server = serverName(clickhouseUrl);
  const columns = 'Timestamp, TraceId, ServiceName, SpanName, SpanAttributes';
  const query = `SELECT ${columns} FROM ${table} ORDER BY Timestamp DESC LIMIT 10 FORMAT Vertical`;
  return `
The collector accepts traces at ${collectorUrl}/v1/traces
ClickHouse: ${server}${isOwn ? `, data in ${DATA_DIR}` : ''}
Status page: ${adminUrl} (shows traces as they arrive); ${adminUrl}/health, ${adminUrl}/ready, ${adminUrl}/metrics

Send a trace:

  NOW=$(date +%s)000000000; curl -i ${collectorUrl}/v1/traces -H 'Content-Type: application/json' -d '${FIRST_TRACE}'

Read it back:

  curl -u ${clickhouseLogin} '${server}' -d '${query.replaceAll("'", String.raw`'\''`)}'

Ctrl-C stops ${isOwn ? 'both' : 'the collector'}; the data stays.
`;
}

/** Prints progress, unless a parent process has forked this one: it gets a message when the collector is up. */
function printProgress(text: string): void {
  if (process.send === undefined) process.stdout.write(`${text}\n`);
}

let clickhouse: EmbeddedClickHouse | undefined;
let stopping = false;
try {
  const { help, version: wantsVersion } = parseProgramOptions(process.argv.slice(2));
  if (help || wantsVersion) {
    process.stdout.write(help ? helpText() : `${version}\n`);
    process.exit();
  }
  Object.assign(process.env, { ...LOCAL_DEFAULTS, ...process.env });
  const isOwn = !CLICKHOUSE_VARIABLES.some((name) => process.env[name]);
  if (isOwn) {
    for (const name of IGNORED_WITHOUT_HOST) delete process.env[name];
    // Validated before ClickHouse starts, to report a wrong setting immediately.
    loadConfig({ ...process.env, ...clickhouseSettings('http://127.0.0.1:8123', '') });
    if (MACHINE.clickhouse.kind === 'none') throw new EmbeddedClickHouseError('not-installed', MACHINE.clickhouse.advice);
    const httpPort = clickHousePort();
    printProgress(
      MACHINE.clickhouse.kind === 'program'
        ? `Starting ${MACHINE.clickhouse.path} and the collector…`
        : 'Starting ClickHouse and the collector…',
    );
    mkdirSync(DATA_DIR, { recursive: true, mode: 0o700 });
    const password = keptPassword(resolve(DATA_DIR, 'clickhouse-password'));
    clickhouse = await startClickHouse(httpPort, password);
    Object.assign(process.env, clickhouseSettings(clickhouse.url, password));
  } else {
    printProgress(`Starting the collector with ClickHouse at ${loadConfig(process.env).CLICKHOUSE_URL.map(serverName).join(', ')}…`);
  }
  const { app, ports } = await startApp();
  app.get(RecentTraces).turnOn();
  app.get(RefusalLog).asWarnings = true;
  stopOnSignal(async () => {
    stopping = true;
    await app.close();
    await clickhouse?.stop();
  });
  // Then the table exists, so that the commands printed below work.
  await app.get(StorageService).availability.whenUp();
  const config = app.get<Config>(collectorConfig.KEY);
  const { HOST, CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE } = config;
  const where: LocalMode = {
    collectorUrl: `http://${HOST}:${ports.otlp}`,
    adminUrl: `http://${HOST}:${ports.admin}`,
    ...clickHouseOf(config, isOwn),
    table: [CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE].map((name) => (/^[a-z_]\w*$/i.test(name) ? name : quote(name))).join('.'),
  };
  if (process.send === undefined) process.stdout.write(instructions(where, isOwn));
  else {
    process.send(where);
    // The parent has ended, and with it what would stop this process.
    process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  }
} catch (error) {
  // A signal during the wait for ClickHouse is no failed start: `stopOnSignal` ends the process.
  if (!stopping) {
    await clickhouse?.stop();
    failToStart(error);
  }
}
