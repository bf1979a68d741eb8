import { fork, type ChildProcess } from 'node:child_process';
import { hash, randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, closeSync, existsSync, fstatSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { extname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Spawned } from './clickhouse-program.ts';
import type { Listening } from './embedded-clickhouse-server.ts';
import { localModeOn, thisMachine } from './local-machine.ts';

/** How to start a ClickHouse. */
export interface EmbeddedClickHouseOptions {
  /** The directory of the server's tables, logs and configuration (rewritten at each start). Created if missing. */
  dataDir: string;
  /** 0, the default, chooses a free port. */
  httpPort?: number;
  /** The memory limit of all queries and merges together, in bytes; by default 4 GB. */
  maxMemoryBytes?: number;
  /** Write system.query_log and system.part_log every second. Off by default: it costs CPU even on an idle server. */
  systemLogs?: boolean;
  /**
   * The password of user `local`, the only one that can log in then: it may use tables, but neither reach other servers nor read files.
   * Without a password, everyone on this machine can log in as `default` with all rights: for tests.
   */
  password?: string;
}

/** The user that logs in with `EmbeddedClickHouseOptions.password`. */
export const LOCAL_USER = 'local';

/** How the server's process ended: one of the two is not null. */
export interface ServerExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** Why a server did not start. Callers read `reason`, operators the message. */
export class EmbeddedClickHouseError extends Error {
  readonly reason: 'not-installed' | 'port-taken' | 'data-dir-locked' | 'failed';

  constructor(reason: EmbeddedClickHouseError['reason'], message: string) {
    super(message);
    this.name = 'EmbeddedClickHouseError';
    this.reason = reason;
  }
}

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 8_000;
/** The interval between two requests that test whether a server answers. */
const ASK_INTERVAL_MS = 50;

/**
 * A running ClickHouse in a process of its own, reachable over HTTP on 127.0.0.1 only: the library that npm installs, or else the
 * `clickhouse` on the PATH. If the kernel has Landlock, the library's process can't open files outside its data directory, except those
 * of the system. The process ends when this one ends, for whatever reason, and keeps this one alive until then.
 */
export class EmbeddedClickHouse implements AsyncDisposable {
  readonly url: string;
  readonly httpPort: number;
  readonly pid: number;
  /** Resolves when the process has ended, for whatever reason. */
  readonly exited: Promise<ServerExit>;
  readonly #child: ChildProcess;

  constructor(child: ChildProcess, pid: number, httpPort: number, exited: Promise<ServerExit>) {
    this.url = `http://127.0.0.1:${httpPort}`;
    this.httpPort = httpPort;
    this.pid = pid;
    this.exited = exited;
    this.#child = child;
  }

  /**
   * Stops the server gracefully, within 8 s. Queries in flight have 5 s; a body that is still being sent is cut off after 200 ms.
   * Resolves when the process is gone.
   */
  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    const escalation = setTimeout(() => killProcess(this.pid), STOP_TIMEOUT_MS);
    await this.exited;
    clearTimeout(escalation);
  }

  /** Ends the server with SIGKILL, and resolves when the process is gone. Confirmed inserts are still stored after the next start. */
  async kill(): Promise<void> {
    killProcess(this.pid);
    await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/**
 * Starts a ClickHouse on a data directory. Resolves when it answers over HTTP.
 * @throws EmbeddedClickHouseError, or a system error when the data directory can't be written
 */
export async function startEmbeddedClickHouse(options: EmbeddedClickHouseOptions): Promise<EmbeddedClickHouse> {
  const { maxMemoryBytes = 4e9, systemLogs = false, password } = options;
  const dataDir = resolve(options.dataDir);
  const { clickhouse } = localModeOn(thisMachine());
  if (clickhouse.kind === 'none') throw new EmbeddedClickHouseError('not-installed', clickhouse.advice);
  const isProgram = clickhouse.kind === 'program';
  const greeting = randomUUID();
  // The library reports the port that it has chosen.
  const httpPort = options.httpPort ?? (isProgram ? await freePort() : 0);
  mkdirSync(dataDir, { recursive: true });
  // The files contain spans: other users of the machine must not read them.
  chmodSync(dataDir, 0o700);
  mkdirSync(join(dataDir, 'user_files'), { recursive: true });
  writeFileSync(join(dataDir, 'users.xml'), password === undefined ? OPEN_TO_ALL : usersXml(password, isProgram));
  const more = [password === undefined ? '' : CONFINED, systemLogs ? SYSTEM_LOGS : '', isProgram ? serverElements(dataDir, greeting) : ''];
  writeFileSync(join(dataDir, 'config.xml'), serverConfig(dataDir, httpPort, maxMemoryBytes, more.join(''), isProgram ? CONSOLE : ''));
  if (systemLogs && !isProgram) keepSystemTables(dataDir);

  const outputPath = join(dataDir, 'output.log');
  const output = openSync(outputPath, 'a');
  const earlierOutputBytes = fstatSync(output).size;
  const name = isProgram ? 'clickhouse-program' : 'embedded-clickhouse-server';
  const program = fileURLToPath(new URL(`${name}${extname(import.meta.url)}`, import.meta.url));
  const programArguments = isProgram
    ? ['server', `--config-file=${join(dataDir, 'config.xml')}`]
    : [password === undefined ? 'connects' : '', `--path=${dataDir}`, '--config-file=config.xml', '--log-level=warning'];
  const child = fork(program, [clickhouse.path, ...programArguments], {
    cwd: dataDir,
    execArgv: [],
    // Not the whole environment: its secrets could be read from /proc.
    env: { PATH: process.env.PATH, TZ: process.env.TZ },
    // Ctrl-C in a terminal is sent to the whole process group, but only this process may stop the server.
    detached: true,
    stdio: ['ignore', output, output, 'ipc'],
  });
  closeSync(output);

  const exited = new Promise<ServerExit>((resolveExit) => {
    child.once('exit', (code, signal) => resolveExit({ code, signal }));
  });
  let pid = child.pid;
  const asking = new AbortController();
  const ready = once(child, 'message').then(async ([message]: (Listening | Spawned)[]) => {
    if ('httpPort' in message) return message.httpPort;
    pid = message.pid;
    return (await waitForAnswer(httpPort, greeting, asking.signal)) ? httpPort : undefined;
  });
  const listeningOn = await Promise.race([ready, exited.then(() => undefined), delay(START_TIMEOUT_MS, undefined, { ref: false })]);
  asking.abort();
  if (listeningOn !== undefined && pid !== undefined) return new EmbeddedClickHouse(child, pid, listeningOn, exited);

  killProcess(pid);
  const { code, signal } = await exited;
  const said = readFileSync(outputPath).subarray(earlierOutputBytes).toString().trim();
  throw startError(`${said} (${signal ?? `exit code ${code}`})`, dataDir, httpPort);
}

/**
 * Waits until the port answers with a text that only our server has: another program may be listening there.
 * @returns false when `signal` is aborted
 */
async function waitForAnswer(httpPort: number, text: string, signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    try {
      const answer = await fetch(`http://127.0.0.1:${httpPort}/`, { headers: { connection: 'close' }, signal });
      if ((await answer.text()) === text) return true;
    } catch {
      // Not listening yet.
    }
    await delay(ASK_INTERVAL_MS);
  }
  return false;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Sends SIGKILL, unless the process has ended. */
function killProcess(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  } catch {
    // The process has ended.
  }
}

/** The error of a failed start. ClickHouse's output shows the two reasons that an operator can fix. */
function startError(output: string, dataDir: string, httpPort: number): EmbeddedClickHouseError {
  if (output.includes('Address already in use')) {
    return new EmbeddedClickHouseError(
      'port-taken',
      `Port ${httpPort} is in use: the embedded ClickHouse can't listen on 127.0.0.1:${httpPort}. ` +
        'Choose another port, or stop the program that uses it.',
    );
  }
  if (output.includes('Cannot lock file')) {
    return new EmbeddedClickHouseError(
      'data-dir-locked',
      `Another embedded ClickHouse is using the data directory ${dataDir}. Stop it, or choose another directory.`,
    );
  }
  return new EmbeddedClickHouseError('failed', `The embedded ClickHouse on ${dataDir} did not start: ${withoutStacks(output)}`);
}

/** Only the last exception, without its stack, if the output has any; otherwise the whole output. */
function withoutStacks(output: string): string {
  return output.match(/Code: \d+\. DB::(?:(?!, Stack trace).)*/g)?.at(-1) ?? output;
}

/**
 * The password in a file, generated at the first call: it stays valid after a restart.
 * @param path the file, readable for its owner only; not in the data directory, which ClickHouse can read
 * @throws when the file can be neither created nor read
 */
export function keptPassword(path: string): string {
  try {
    writeFileSync(path, `${randomBytes(18).toString('base64url')}\n`, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return readFileSync(path, 'utf8').trimEnd();
}

/** users.xml without a password: as a library, ClickHouse itself logs in as `default`, and can't send one. */
const OPEN_TO_ALL = `<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password/>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </default>
  </users>
</clickhouse>
`;

/** The grants to use tables of all databases. Without CHECK, a privilege that ClickHouse 24.8 does not have. */
const GRANTS =
  'SHOW, SELECT, INSERT, ALTER TABLE, ALTER VIEW, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE, ' +
  'DROP DATABASE, DROP TABLE, DROP VIEW, UNDROP TABLE, TRUNCATE, OPTIMIZE, KILL QUERY, SYSTEM FLUSH LOGS';
/** The engines of databases and tables that store data in the data directory, in memory, or in other tables. */
const ENGINES: readonly string[] = [
  'Atomic',
  'MergeTree',
  'ReplacingMergeTree',
  'SummingMergeTree',
  'AggregatingMergeTree',
  'CollapsingMergeTree',
  'VersionedCollapsingMergeTree',
  'Memory',
  'Null',
  'View',
  'MaterializedView',
  'Merge',
  'Buffer',
];
/** Settings that name files, other servers, or disks made of these. */
const SETTINGS_OF_OUTSIDE: readonly string[] = [
  'format_schema',
  'format_template_row',
  'format_template_resultset',
  'format_avro_schema_registry_url',
  'merge_tree_disk',
];

/** User `default` for the library itself. It may only listen, and only one session is allowed, which the library keeps to its end. */
const LIBRARY_ITSELF = `
    <default>
      <password/>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>itself</profile>
      <quota>default</quota>
      <grants><query>GRANT SYSTEM LISTEN ON *.*</query></grants>
    </default>`;

/** users.xml with user `local` and its password. A server from the PATH has no other user. */
function usersXml(password: string, isProgram: boolean): string {
  const grants = [`GRANT ${GRANTS} ON *.*`, ...ENGINES.map((engine) => `GRANT TABLE ENGINE ON ${engine}`)];
  return `<clickhouse>
  <profiles>
    <default/>
    <itself><max_sessions_for_user>1</max_sessions_for_user><constraints>${constant('max_sessions_for_user')}</constraints></itself>
    <confined><constraints>${SETTINGS_OF_OUTSIDE.map(constant).join('')}</constraints></confined>
  </profiles>
  <quotas><default/></quotas>
  <users>${isProgram ? '' : LIBRARY_ITSELF}
    <${LOCAL_USER}>
      <password_sha256_hex>${hash('sha256', password, 'hex')}</password_sha256_hex>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>confined</profile>
      <quota>default</quota>
      <grants>${grants.map((grant) => `<query>${grant}</query>`).join('')}</grants>
    </${LOCAL_USER}>
  </users>
</clickhouse>
`;
}

function constant(setting: string): string {
  return `<${setting}><const/></${setting}>`;
}

/** Each table engine needs a grant, and no URL may be requested: none.invalid does not exist. */
const CONFINED = `  <access_control_improvements>
    <table_engines_require_grant>true</table_engines_require_grant>
  </access_control_improvements>
  <remote_url_allow_hosts><host>none.invalid</host></remote_url_allow_hosts>
`;

/**
 * config.xml with small pools and caches, and no system logs, so that an idle server needs little CPU and memory. The streaming pool has
 * a task for every table: at its default size, 2, ClickHouse logs warnings under load.
 */
function serverConfig(dataDir: string, httpPort: number, maxMemoryBytes: number, more: string, console: string): string {
  return `<clickhouse>
  <listen_host>127.0.0.1</listen_host>
  <http_port>${httpPort}</http_port>
  <users_config>users.xml</users_config>
  <user_files_path>${xmlText(dataDir)}/user_files/</user_files_path>
  <logger><level>warning</level><log>server.log</log><size>10M</size><count>2</count>${console}</logger>
  <max_server_memory_usage>${maxMemoryBytes}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <max_concurrent_queries>100</max_concurrent_queries>
  <keep_alive_timeout>30</keep_alive_timeout>
  <background_pool_size>4</background_pool_size>
  <background_common_pool_size>2</background_common_pool_size>
  <background_schedule_pool_size>4</background_schedule_pool_size>
  <background_streaming_schedule_pool_size>4</background_streaming_schedule_pool_size>
${more}</clickhouse>
`;
}

/** Prints errors to stderr, where `startError` finds the reason of a failed start. The library does so by itself. */
const CONSOLE = '<console>1</console><console_log_level>error</console_log_level>';

/**
 * Elements of config.xml for a server from the PATH: the path, which the library gets on its command line, and the text by which
 * `waitForAnswer` recognises the server. Idle connections must not delay a stop by the default of 5 s. The configuration is never reloaded,
 * because a second start overwrites it before it finds the data directory locked.
 */
function serverElements(dataDir: string, greeting: string): string {
  return `  <path>${xmlText(dataDir)}/</path>
  <http_server_default_response>${greeting}</http_server_default_response>
  <shutdown_wait_unfinished>1</shutdown_wait_unfinished>
  <config_reload_interval_ms>2147483647</config_reload_interval_ms>
`;
}

function xmlText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

/**
 * Stores the definition of the database `system`. Without it, the library forgets the tables of `system` but not their files, and can't
 * create the tables again at the next start.
 */
function keepSystemTables(dataDir: string): void {
  const definition = join(dataDir, 'metadata', 'system.sql');
  if (existsSync(definition)) return;
  mkdirSync(join(dataDir, 'metadata'), { recursive: true });
  writeFileSync(definition, `ATTACH DATABASE _ UUID '${randomUUID()}' ENGINE = Atomic\n`);
}

const SYSTEM_LOGS = ['query_log', 'part_log']
  .map(
    (table) =>
      `  <${table}><database>system</database><table>${table}</table>` +
      `<flush_interval_milliseconds>1000</flush_interval_milliseconds></${table}>\n`,
  )
  .join('');
