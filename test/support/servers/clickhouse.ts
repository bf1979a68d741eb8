import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  EmbeddedClickHouseError,
  startEmbeddedClickHouse,
  type EmbeddedClickHouse,
  type EmbeddedClickHouseOptions,
} from '../../../src/embedded/embedded-clickhouse.ts';
import { freePorts } from './free-ports.ts';

/** A real ClickHouse for one test. Its data directory is empty at first, and is deleted with it. */
export interface TestClickHouse extends AsyncDisposable {
  readonly url: string;
  readonly dataDir: string;
  readonly server: EmbeddedClickHouse;
  /** Rows of a SELECT. 64-bit integers come as strings. */
  query<Row>(sql: string): Promise<Row[]>;
  /** Runs a statement; `body` is the data of an INSERT. @throws Error with ClickHouse's message */
  command(sql: string, body?: RequestInit['body'], headers?: Record<string, string>): Promise<void>;
  /** Whether the default database has the table. With the disk buffer, a collector is ready before it has created its table. */
  hasTable(name: string): Promise<boolean>;
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /**
   * Kills it, deletes the parts of a table for which the condition is true, and starts it again. The tokens of their inserts remain, as
   * if it had been killed between writing a token and committing the part (src/storage/lost-rows.ts).
   */
  losePartsOf(table: string, condition?: string): Promise<void>;
  /** Starts it again with the same port and data. Stops it first if it runs. */
  restart(): Promise<void>;
  /** SIGSTOP: the kernel still accepts connections, and nothing is answered. */
  pause(): void;
  resume(): void;
}

export interface TestClickHouseOptions extends Partial<EmbeddedClickHouseOptions> {
  /** Further elements of its configuration: clusters, disks. */
  readonly configuration?: string;
  /** Elements with further users, profiles and quotas. They are read once, at the start. */
  readonly users?: string;
  /** The native port, for other servers of its cluster. */
  readonly tcpPort?: number;
}

/** Starts a ClickHouse. Resolves when it is ready. system.query_log and system.part_log are on by default. */
export async function startClickHouse({
  configuration = '',
  users = '',
  tcpPort,
  ...options
}: TestClickHouseOptions = {}): Promise<TestClickHouse> {
  const dataDir = mkdtempSync(join(tmpdir(), 'clickhouse-test-'));
  const settings = { dataDir, systemLogs: true, ...options };
  const port = tcpPort === undefined ? '' : `<tcp_port>${tcpPort}</tcp_port>`;
  writeConfiguration(settings.dataDir, 'config.d', `${port}${configuration}`);
  writeConfiguration(settings.dataDir, 'users.d', users);
  let server = await (settings.httpPort === undefined ? startOnFreePort(settings) : startEmbeddedClickHouse(settings));
  let isExpectedToRun = true;
  let restarting: Promise<void> | undefined;
  if (tcpPort !== undefined) await listen();

  /**
   * Opens the native port. When another server is killed and its connection is reset, ClickHouse as a library can abort; a real server
   * logs it. An aborted one is therefore started again, as a supervisor would.
   */
  async function listen(): Promise<void> {
    const listening = server;
    await request('SYSTEM START LISTEN TCP', '', {});
    void listening.exited.then(({ signal }) => {
      if (!isExpectedToRun || signal !== 'SIGABRT') return;
      console.warn(`ClickHouse (pid ${listening.pid}) has aborted, and is started again`);
      restarting = start();
    });
  }

  async function start(): Promise<void> {
    server = await startEmbeddedClickHouse({ ...settings, httpPort: server.httpPort });
    if (tcpPort !== undefined) await listen();
  }

  async function end(how: 'stop' | 'kill'): Promise<void> {
    isExpectedToRun = false;
    await restarting;
    await server[how]();
  }

  async function request(sql: string, body: RequestInit['body'], headers: Record<string, string>): Promise<string> {
    const search = new URLSearchParams({ query: sql, output_format_json_quote_64bit_integers: '1' });
    // Each request has a new connection: none is stale after a restart, and stop() waits for none.
    const response = await fetch(`${server.url}/?${search.toString()}`, {
      method: 'POST',
      body,
      headers: { ...headers, connection: 'close' },
    });
    const text = await response.text();
    if (!response.ok || response.headers.has('x-clickhouse-exception-code')) throw new Error(text);
    return text;
  }

  const clickhouse: TestClickHouse = {
    dataDir: settings.dataDir,
    get url() {
      return server.url;
    },
    get server() {
      return server;
    },
    async query<Row>(sql: string): Promise<Row[]> {
      const lines = await request(`${sql} FORMAT JSONEachRow`, '', {});
      return lines
        .split('\n')
        .filter(Boolean)
        .map((line): Row => JSON.parse(line));
    },
    async command(sql, body = '', headers = {}) {
      await request(sql, body, headers);
    },
    async hasTable(name) {
      const [{ result }] = await clickhouse.query<{ result: number }>(`EXISTS TABLE ${name}`);
      return result === 1;
    },
    stop: () => end('stop'),
    kill: () => end('kill'),
    async losePartsOf(table, condition = 'true') {
      const parts = await clickhouse.query<{ path: string }>(
        `SELECT path FROM system.parts WHERE active AND table = '${table}' AND ${condition}`,
      );
      await clickhouse.kill();
      for (const { path } of parts) rmSync(path, { recursive: true });
      await clickhouse.restart();
    },
    async restart() {
      await end('stop');
      isExpectedToRun = true;
      await start();
    },
    pause: () => void process.kill(server.pid, 'SIGSTOP'),
    resume: () => void process.kill(server.pid, 'SIGCONT'),
    async [Symbol.asyncDispose]() {
      await end('kill');
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
  return clickhouse;
}

function writeConfiguration(dataDir: string, folder: string, elements: string): void {
  mkdirSync(join(dataDir, folder), { recursive: true });
  writeFileSync(join(dataDir, folder, 'test.xml'), `<clickhouse>${elements}</clickhouse>`);
}

/** The port is below the range of outgoing connections, so that none of these takes it while the server is down. */
async function startOnFreePort(settings: EmbeddedClickHouseOptions): Promise<EmbeddedClickHouse> {
  for (;;) {
    const [httpPort] = await freePorts(1);
    try {
      return await startEmbeddedClickHouse({ ...settings, httpPort });
    } catch (error) {
      if (!(error instanceof EmbeddedClickHouseError && error.reason === 'port-taken')) throw error;
    }
  }
}
