import { fork, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { extname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Listening } from './embedded-clickhouse-server.ts';

export interface EmbeddedClickHouseOptions {
  /** Everything the server keeps: tables, its configuration (written anew at each start), its logs. Made when missing. */
  dataDir: string;
  /** 0, the default, takes a free one. */
  httpPort?: number;
  /** Most memory of all queries and merges together, in bytes. */
  maxMemoryBytes?: number;
  /** Keep system.query_log and system.part_log, written every second. They keep an idle server from being idle. */
  systemLogs?: boolean;
}

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

/**
 * A ClickHouse in a process of its own, reachable over HTTP at 127.0.0.1 only, as user `default` without a password.
 * It ends with this process, however this process ends, and keeps it alive until then.
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
   * Ends the server in order, within 8 s. Queries under way have 5 s; a body still being sent is cut off after 200 ms.
   * Resolves when the process is gone.
   */
  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    const escalation = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await this.exited;
    clearTimeout(escalation);
  }

  /** Ends the server with SIGKILL. What it has confirmed is there after the next start. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/**
 * Starts a ClickHouse on a data directory. Resolves when it answers over HTTP.
 * @throws EmbeddedClickHouseError
 */
export async function startEmbeddedClickHouse(options: EmbeddedClickHouseOptions): Promise<EmbeddedClickHouse> {
  const { httpPort = 0, maxMemoryBytes = 4e9, systemLogs = false } = options;
  const dataDir = resolve(options.dataDir);
  const library = findLibrary();
  mkdirSync(dataDir, { recursive: true });
  writeFileSync(join(dataDir, 'users.xml'), USERS);
  writeFileSync(join(dataDir, 'config.xml'), serverConfig(httpPort, maxMemoryBytes, systemLogs));
  if (systemLogs) keepSystemTables(dataDir);

  const outputPath = join(dataDir, 'output.log');
  const output = openSync(outputPath, 'a');
  const earlierOutputBytes = fstatSync(output).size;
  const program = fileURLToPath(new URL(`embedded-clickhouse-server${extname(import.meta.url)}`, import.meta.url));
  const child = fork(program, [library, `--path=${dataDir}`, '--config-file=config.xml', '--log-level=warning'], {
    cwd: dataDir,
    execArgv: [],
    // Ctrl-C in a terminal reaches the whole process group: only this process is to decide when the server stops.
    detached: true,
    stdio: ['ignore', output, output, 'ipc'],
  });
  closeSync(output);

  const exited = new Promise<ServerExit>((resolveExit) => {
    child.once('exit', (code, signal) => resolveExit({ code, signal }));
  });
  const listening = await Promise.race([
    once(child, 'message').then(([message]): Listening => message),
    exited.then(() => undefined),
    delay(START_TIMEOUT_MS, undefined, { ref: false }),
  ]);
  if (listening !== undefined && child.pid !== undefined) return new EmbeddedClickHouse(child, child.pid, listening.httpPort, exited);

  child.kill('SIGKILL');
  const { code, signal } = await exited;
  const said = readFileSync(outputPath).subarray(earlierOutputBytes).toString().trim();
  throw startError(`${said} (${signal ?? `exit code ${code}`})`, dataDir, httpPort);
}

/** @returns the path of ClickHouse as a library, an optional package that only Linux x64 with glibc has. */
function findLibrary(): string {
  try {
    return createRequire(import.meta.url).resolve('@chdb/lib-linux-x64-gnu/libchdb.so');
  } catch {
    const remedy =
      process.platform === 'linux' && process.arch === 'x64'
        ? 'Run npm ci without --omit=optional'
        : `There is none for ${process.platform} ${process.arch}, only for Linux x64 (glibc)`;
    throw new EmbeddedClickHouseError('not-installed', `The embedded ClickHouse is not installed. ${remedy}, or set CLICKHOUSE_URL to a ClickHouse of your own.`);
  }
}

/** Tells the two errors an operator can do something about by what ClickHouse prints. */
function startError(output: string, dataDir: string, httpPort: number): EmbeddedClickHouseError {
  if (output.includes('Address already in use')) {
    return new EmbeddedClickHouseError('port-taken', `Port ${httpPort} is taken: the embedded ClickHouse can't listen on 127.0.0.1:${httpPort}. Choose another port, or stop what uses it.`);
  }
  if (output.includes('Cannot lock file')) {
    return new EmbeddedClickHouseError('data-dir-locked', `Another embedded ClickHouse runs on the data directory ${dataDir}. Stop it, or choose another directory.`);
  }
  return new EmbeddedClickHouseError('failed', `The embedded ClickHouse on ${dataDir} did not start: ${output}`);
}

/** One user, without a password: the server listens on the loopback interface only. */
const USERS = `<clickhouse>
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

/**
 * Small pools and caches, and no system logs that were not asked for: an idle server should cost next to nothing.
 * Every table has a task in the streaming pool, which warns about its default size, 2, under load.
 */
function serverConfig(httpPort: number, maxMemoryBytes: number, systemLogs: boolean): string {
  return `<clickhouse>
  <listen_host>127.0.0.1</listen_host>
  <http_port>${httpPort}</http_port>
  <users_config>users.xml</users_config>
  <logger><level>warning</level><log>server.log</log><size>10M</size><count>2</count></logger>
  <max_server_memory_usage>${maxMemoryBytes}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <max_concurrent_queries>100</max_concurrent_queries>
  <keep_alive_timeout>30</keep_alive_timeout>
  <background_pool_size>4</background_pool_size>
  <background_common_pool_size>2</background_common_pool_size>
  <background_schedule_pool_size>4</background_schedule_pool_size>
  <background_streaming_schedule_pool_size>4</background_streaming_schedule_pool_size>
${systemLogs ? systemLog('query_log') + systemLog('part_log') : ''}</clickhouse>
`;
}

/** As a library, ClickHouse forgets the tables of `system` but not their files, and can't make them again at the next start. */
function keepSystemTables(dataDir: string): void {
  const definition = join(dataDir, 'metadata', 'system.sql');
  if (existsSync(definition)) return;
  mkdirSync(join(dataDir, 'metadata'), { recursive: true });
  writeFileSync(definition, `ATTACH DATABASE _ UUID '${randomUUID()}' ENGINE = Atomic\n`);
}

function systemLog(table: string): string {
  return `  <${table}><database>system</database><table>${table}</table><flush_interval_milliseconds>1000</flush_interval_milliseconds></${table}>\n`;
}
