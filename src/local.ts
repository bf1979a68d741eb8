import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { failToStart, startApp, stopOnSignal } from './app.ts';
import { collectorConfig } from './config/config.module.ts';
import { ConfigError, loadConfig } from './config/load-config.ts';
import { port } from './config/variable.ts';
import type { Config } from './config/variables.ts';
import { EmbeddedClickHouseError, keptPassword, LOCAL_USER, startEmbeddedClickHouse, type EmbeddedClickHouse } from './embedded/embedded-clickhouse.ts';
import { quote } from './schema/schema.ts';
import { RecentTraces } from './status/recent-traces.ts';
import { StorageService } from './storage/storage.service.ts';

/*
 * Local mode: the collector with a ClickHouse of its own, on 127.0.0.1, for trying out. Everything else is as in
 * production, and every variable can be set as there.
 */

/** Told to a parent that has forked it, in place of instructions. */
export interface LocalMode {
  readonly collectorUrl: string;
  readonly adminUrl: string;
  readonly clickhouseUrl: string;
  readonly clickhouseUser: string;
  readonly clickhousePassword: string;
  /** database.table, quoted where ClickHouse needs it. */
  readonly table: string;
}

const DATA_DIR = resolve(process.env.LOCAL_DATA_DIR || 'data');
const LOCAL_DEFAULTS = {
  HOST: '127.0.0.1',
  DISABLE_AUTH: 'true',
  CLICKHOUSE_CREATE_SCHEMA: 'true',
  ENABLE_DISK_BUFFER: 'true',
  DISK_BUFFER_DIR: resolve(DATA_DIR, 'disk-buffer'),
  DISK_BUFFER_MAX_SIZE_MB: '256',
  // Whoever tries it out wants to see the span at once.
  BATCH_TIMEOUT_MS: '100',
};

/** They name a ClickHouse, and local mode has its own. */
const NOT_READ = ['CLICKHOUSE_URL', 'CLICKHOUSE_URL_FILE', 'CLICKHOUSE_PROTOCOL', 'CLICKHOUSE_HOST', 'CLICKHOUSE_PORT'];

async function startClickHouse(password: string): Promise<EmbeddedClickHouse> {
  const given = process.env.LOCAL_CLICKHOUSE_PORT || '8123';
  const { schema, allowed } = port(undefined, 'ClickHouse over HTTP.');
  const httpPort = schema.safeParse(given);
  if (!httpPort.success) throw new ConfigError([`LOCAL_CLICKHOUSE_PORT is ${JSON.stringify(given)}. Allowed: ${allowed}.`]);
  try {
    return await startEmbeddedClickHouse({ dataDir: resolve(DATA_DIR, 'clickhouse'), httpPort: httpPort.data, password });
  } catch (error) {
    if (!(error instanceof EmbeddedClickHouseError) || error.reason !== 'port-taken') throw error;
    throw new EmbeddedClickHouseError(error.reason, `${error.message} ClickHouse wants it: stop the other program, or set LOCAL_CLICKHOUSE_PORT to another port.`);
  }
}

/** In place of whatever the environment says of another ClickHouse. */
function clickhouseSettings(url: string, password: string): NodeJS.ProcessEnv {
  return { CLICKHOUSE_URL: url, CLICKHOUSE_URL_FILE: '', CLICKHOUSE_USERNAME: LOCAL_USER, CLICKHOUSE_USERNAME_FILE: '', CLICKHOUSE_PASSWORD: password, CLICKHOUSE_PASSWORD_FILE: '' };
}

/** A request and a query that can be pasted into a terminal. */
function instructions({ collectorUrl, adminUrl, clickhouseUrl, clickhouseUser, clickhousePassword, table }: LocalMode): string {
  return `
The collector takes traces at ${collectorUrl}/v1/traces; ClickHouse (${clickhouseUrl}) keeps its data in ${DATA_DIR}.
Look at it: ${adminUrl} (traces as they come, and how it is doing); ${adminUrl}/health, ${adminUrl}/ready, ${adminUrl}/metrics

Send a trace:

  NOW=$(date +%s)000000000; curl -i ${collectorUrl}/v1/traces -H 'Content-Type: application/json' -d '{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"hello"}}]},"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"my first span","kind":2,"startTimeUnixNano":"'$NOW'","endTimeUnixNano":"'$NOW'"}]}]}]}'

Read it back:

  curl -u ${clickhouseUser}:${clickhousePassword} '${clickhouseUrl}' -d 'SELECT Timestamp, TraceId, ServiceName, SpanName, SpanAttributes FROM ${table.replaceAll("'", String.raw`'\''`)} ORDER BY Timestamp DESC LIMIT 10 FORMAT Vertical'

Ctrl-C stops both; the data stays.
`;
}

let clickhouse: EmbeddedClickHouse | undefined;
try {
  Object.assign(process.env, { ...LOCAL_DEFAULTS, ...process.env });
  for (const name of NOT_READ) delete process.env[name];
  // Before ClickHouse starts: a wrong setting should not cost a second.
  loadConfig({ ...process.env, ...clickhouseSettings('http://127.0.0.1:8123', '') });
  mkdirSync(DATA_DIR, { recursive: true, mode: 0o700 });
  const password = keptPassword(resolve(DATA_DIR, 'clickhouse-password'));
  clickhouse = await startClickHouse(password);
  Object.assign(process.env, clickhouseSettings(clickhouse.url, password));
  const { app, ports } = await startApp();
  app.get(RecentTraces).turnOn();
  // The table is there: what is printed below works at once.
  await app.get(StorageService).availability.whenUp();
  stopOnSignal(async () => {
    await app.close();
    await clickhouse?.stop();
  });
  const { HOST, CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE } = app.get<Config>(collectorConfig.KEY);
  const where: LocalMode = {
    collectorUrl: `http://${HOST}:${ports.otlp}`,
    adminUrl: `http://${HOST}:${ports.admin}`,
    clickhouseUrl: clickhouse.url,
    clickhouseUser: LOCAL_USER,
    clickhousePassword: password,
    table: [CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE].map((name) => (/^[a-z_]\w*$/i.test(name) ? name : quote(name))).join('.'),
  };
  if (process.send === undefined) process.stdout.write(instructions(where));
  else {
    process.send(where);
    // Nobody is left to stop it.
    process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  }
} catch (error) {
  await clickhouse?.stop();
  failToStart(error);
}
