import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePorts } from '../test/support/servers/free-ports.ts';
import { DIST, type Server, type Settings, startCollector } from './collector.ts';

/** A program that is put under load, for comparison. */
export interface Subject {
  readonly name: string;
  /** Whether it stores spans in ClickHouse. */
  readonly stores: boolean;
  /** Whether it acknowledges spans that it may lose. */
  readonly mayLose?: true;
  /** Installs or builds its dependencies. @throws when they are not available here */
  prepare?(): Promise<unknown>;
  /** Starts it with a ClickHouse without tables. Resolves when it accepts spans. */
  start(clickhouseUrl: string): Promise<Server>;
}

export type Mode = 'memory' | 'disk buffer';

/** A built collector: `name` and its mode. It answers 200 when ClickHouse has confirmed, or when the spans are in the disk buffer. */
export function collector(name: string, mode: Mode, settings: Settings = {}, dist = DIST): Subject {
  return {
    name: `${name}, ${mode}`,
    stores: true,
    async start(clickhouseUrl) {
      if (mode === 'memory') return startCollector(clickhouseUrl, settings, dist);
      const dir = mkdtempSync(join(tmpdir(), 'bench-'));
      const running = await startCollector(clickhouseUrl, { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir, ...settings }, dist);
      return {
        ...running,
        async [Symbol.asyncDispose]() {
          await running[Symbol.asyncDispose]();
          rmSync(dir, { recursive: true });
        },
      };
    },
  };
}

export const THIS_COLLECTOR = 'this collector';
export const memoryMode = collector(THIS_COLLECTOR, 'memory');
export const diskBuffer = collector(THIS_COLLECTOR, 'disk buffer');

/** A collector as a plain Nest app: baselines/nest-app.ts. */
export const plainNest: Subject = {
  name: 'plain Nest, JSONEachRow',
  stores: true,
  // Node can't run sources with decorators.
  prepare: () => run('node_modules/.bin/tsc', ['-p', 'bench/baselines'], {}),
  async start(clickhouseUrl) {
    await run(process.execPath, ['dist/cli/schema.js', 'apply'], { CLICKHOUSE_URL: clickhouseUrl });
    return startServer('bench/baselines/dist/bench/baselines/nest-app.js', { CLICKHOUSE_URL: clickhouseUrl });
  },
};

/** The minimum for a Node server: baselines/receive.ts. */
export const receiveOnly: Subject = {
  name: 'node:http, reads and drops',
  stores: false,
  start: () => startServer('bench/baselines/receive.ts', {}),
};

/** The same with Fastify's router: baselines/receive-fastify.ts. */
export const fastifyOnly: Subject = {
  name: 'Fastify, reads and drops',
  stores: false,
  start: () => startServer('bench/baselines/receive-fastify.ts', {}),
};

const root = fileURLToPath(new URL('..', import.meta.url));

async function run(program: string, args: readonly string[], env: Settings): Promise<void> {
  await promisify(execFile)(program, args, { cwd: root, env: { PATH: process.env.PATH, ...env } });
}

/** Starts a server on PORT. It must answer a request only after storing its spans: `drained` does not wait. */
async function startServer(path: string, env: Settings): Promise<Server> {
  const [port] = await freePorts(1);
  const own = { PATH: process.env.PATH, ...env, PORT: String(port) };
  const child = spawn(process.execPath, [path], { cwd: root, env: own, stdio: ['ignore', 'ignore', 'inherit'] });
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
  return fetch(`http://127.0.0.1:${port}/`).then(
    () => true,
    () => false,
  );
}
