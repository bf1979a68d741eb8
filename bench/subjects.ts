import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePorts } from '../test/support/servers/free-ports.ts';
import { type Server, startCollector } from './collector.ts';

/** What is put under load, to be compared. */
export interface Subject {
  readonly name: string;
  /** Whether spans end in ClickHouse. */
  readonly stores: boolean;
  /** It acknowledges spans that it may lose. */
  readonly mayLose?: true;
  /** Starts it, on a ClickHouse without tables, and resolves when it takes spans. */
  start(clickhouseUrl: string): Promise<Server>;
}

/** The built collector, 200 when ClickHouse has confirmed. */
export const memoryMode: Subject = {
  name: 'collector, memory',
  stores: true,
  start: (clickhouseUrl) => startCollector(clickhouseUrl, {}),
};

/** The built collector, 200 when in the disk buffer. */
export const diskBuffer: Subject = {
  name: 'collector, disk buffer',
  stores: true,
  async start(clickhouseUrl) {
    const dir = mkdtempSync(join(tmpdir(), 'bench-'));
    const collector = await startCollector(clickhouseUrl, { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir });
    return {
      ...collector,
      async [Symbol.asyncDispose]() {
        await collector[Symbol.asyncDispose]();
        rmSync(dir, { recursive: true });
      },
    };
  },
};

/** Node runs no decorators. */
let compiled: Promise<void> | undefined;

/** baselines/nest-app.ts. */
export const plainNest: Subject = {
  name: 'plain Nest, JSONEachRow',
  stores: true,
  async start(clickhouseUrl) {
    await (compiled ??= run('node_modules/.bin/tsc', ['-p', 'bench/baselines'], {}));
    await run(process.execPath, ['dist/cli/schema.js', 'apply'], { CLICKHOUSE_URL: clickhouseUrl });
    return startServer('bench/baselines/dist/bench/baselines/nest-app.js', { CLICKHOUSE_URL: clickhouseUrl });
  },
};

/** baselines/receive.ts. */
export const receiveOnly: Subject = {
  name: 'node:http, reads and drops',
  stores: false,
  start: () => startServer('bench/baselines/receive.ts', {}),
};

/** baselines/receive-fastify.ts. */
export const fastifyOnly: Subject = {
  name: 'Fastify, reads and drops',
  stores: false,
  start: () => startServer('bench/baselines/receive-fastify.ts', {}),
};

const root = fileURLToPath(new URL('..', import.meta.url));

async function run(program: string, args: readonly string[], env: Readonly<Record<string, string>>): Promise<void> {
  await promisify(execFile)(program, args, { cwd: root, env: { ...process.env, ...env } });
}

/** A program that answers only when all is stored, on PORT. */
async function startServer(path: string, env: Readonly<Record<string, string>>): Promise<Server> {
  const [port] = await freePorts(1);
  const child = spawn(process.execPath, [path], { cwd: root, env: { ...process.env, ...env, PORT: String(port) }, stdio: ['ignore', 'ignore', 'inherit'] });
  while (!(await listens(port))) {
    if (child.exitCode !== null) throw new Error(`${path} ended with ${child.exitCode}.`);
    await sleep(50);
  }
  return {
    pid: child.pid!,
    port,
    drained: async () => {},
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
    },
  };
}

async function listens(port: number): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false);
}
