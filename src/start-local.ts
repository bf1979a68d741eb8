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
 * Local mode: the collector on 127.0.0.1, for trying out, with a ClickHouse of its own unless the environment names one. Everything
 * else is as in production, and every variable can be set as there.
 */

/** Told to a parent that has forked it, in place of instructions. */
export interface LocalMode {
  readonly collectorUrl: string;
  readonly adminUrl: string;
  /** Without credentials. */
  readonly clickhouseUrl: string;
  readonly clickhouseUser: string;
  readonly clickhousePassword: string;
  /** What `curl -u` is given: the password only if it is local mode's own, or empty. Otherwise curl asks for it. */
  readonly clickhouseLogin: string;
  /** database.table, quoted where ClickHouse needs it. */
  readonly table: string;
}

const DATA_DIR = resolve(process.env.LOCAL_DATA_DIR || 'data');
const MACHINE = localModeOn(thisMachine());
/** The library and a server are not made to take over from each other. */
const CLICKHOUSE_FOLDER = MACHINE.clickhouse.kind === 'program' ? 'clickhouse-server' : 'clickhouse';
const LOCAL_DEFAULTS = {
  HOST: '127.0.0.1',
  DISABLE_AUTH: 'true',
  CLICKHOUSE_CREATE_SCHEMA: 'true',
  ENABLE_DISK_BUFFER: String(MACHINE.diskBuffer),
  DISK_BUFFER_DIR: resolve(DATA_DIR, 'disk-buffer'),
  DISK_BUFFER_MAX_SIZE_MB: '256',
  // Whoever tries it out wants to see the span at once.
  BATCH_TIMEOUT_MS: '100',
};

/** Each of them names a ClickHouse, which is used then. */
const NAMES = ['CLICKHOUSE_URL', 'CLICKHOUSE_URL_FILE', 'CLICKHOUSE_HOST'];
/** Alone, these name none. */
const NOT_READ = ['CLICKHOUSE_PROTOCOL', 'CLICKHOUSE_PORT'];

/** @throws ConfigError */
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
      `${error.message} ClickHouse wants it: stop the other program, or set LOCAL_CLICKHOUSE_PORT to another port.`,
    );
  }
}

/** In place of whatever the environment says of another ClickHouse. */
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

/** The first server of the configuration: whose rows are shown, and how to ask for them. */
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

/** A request and a query that can be pasted into a terminal. */
function instructions({ collectorUrl, adminUrl, clickhouseUrl, clickhouseLogin, table }: LocalMode, isOwn: boolean): string {
  const server = serverName(clickhouseUrl);
  return `
The collector takes traces at ${collectorUrl}/v1/traces; ClickHouse (${server}) ${isOwn ? `keeps its data in ${DATA_DIR}` : 'is yours'}.
Look at it: ${adminUrl} (traces as they come, and how it is doing); ${adminUrl}/health, ${adminUrl}/ready, ${adminUrl}/metrics

Send a trace:

  NOW=$(date +%s)000000000; curl -i ${collectorUrl}/v1/traces -H 'Content-Type: application/json' -d '{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"hello"}}]},"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"my first span","kind":2,"startTimeUnixNano":"'$NOW'","endTimeUnixNano":"'$NOW'"}]}]}]}'

Read it back:

  curl -u ${clickhouseLogin} '${server}' -d 'SELECT Timestamp, TraceId, ServiceName, SpanName, SpanAttributes FROM ${table.replaceAll("'", String.raw`'\''`)} ORDER BY Timestamp DESC LIMIT 10 FORMAT Vertical'

Ctrl-C stops ${isOwn ? 'both' : 'the collector'}; the data stays.
`;
}

/** What is under way, to whoever sits in front of it. A parent is told when it is done. */
function tell(text: string): void {
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
  const isOwn = !NAMES.some((name) => process.env[name]);
  if (isOwn) {
    for (const name of NOT_READ) delete process.env[name];
    // Before ClickHouse starts: a wrong setting should not cost a second.
    loadConfig({ ...process.env, ...clickhouseSettings('http://127.0.0.1:8123', '') });
    if (MACHINE.clickhouse.kind === 'none') throw new EmbeddedClickHouseError('not-installed', MACHINE.clickhouse.advice);
    const httpPort = clickHousePort();
    tell(
      MACHINE.clickhouse.kind === 'program'
        ? `Starting ${MACHINE.clickhouse.path} and the collector…`
        : 'Starting ClickHouse and the collector…',
    );
    mkdirSync(DATA_DIR, { recursive: true, mode: 0o700 });
    const password = keptPassword(resolve(DATA_DIR, 'clickhouse-password'));
    clickhouse = await startClickHouse(httpPort, password);
    Object.assign(process.env, clickhouseSettings(clickhouse.url, password));
  } else {
    tell(`Starting the collector with ClickHouse at ${loadConfig(process.env).CLICKHOUSE_URL.map(serverName).join(', ')}…`);
  }
  const { app, ports } = await startApp();
  app.get(RecentTraces).turnOn();
  app.get(RefusalLog).asWarnings = true;
  stopOnSignal(async () => {
    stopping = true;
    await app.close();
    await clickhouse?.stop();
  });
  // The table is there: what is printed below works at once.
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
    // Nobody is left to stop it.
    process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  }
} catch (error) {
  // A signal while ClickHouse is waited for is no failed start, and ends the process by itself.
  if (!stopping) {
    await clickhouse?.stop();
    failToStart(error);
  }
}
