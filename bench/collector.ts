import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePorts } from '../test/support/servers/free-ports.ts';
import type { LoadOptions, LoadResult } from './load.ts';

/** A server for spans as a process of its own. */
export interface Server extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  /** Resolves when all that was acknowledged since the table was empty, so many spans, is in ClickHouse. */
  drained(spans: number): Promise<void>;
}

/** The built collector. */
export interface BenchCollector extends Server {
  /** Of the port for health and metrics. */
  readonly adminUrl: string;
  /** The same; it knows what it has acknowledged. */
  drained(): Promise<void>;
  /** The value of a metric without labels; undefined if there is none of that name. */
  metric(name: string): Promise<number | undefined>;
}

/** Starts the collector and waits until it takes spans. */
export async function startCollector(clickhouseUrl: string, settings: Readonly<Record<string, string>>): Promise<BenchCollector> {
  const [port, healthPort, healthcheckPort] = await freePorts(3);
  const env = {
    ...process.env,
    HOST: '127.0.0.1',
    PORT: String(port),
    HEALTH_PORT: String(healthPort),
    HEALTHCHECK_PORT: String(healthcheckPort),
    CLICKHOUSE_URL: clickhouseUrl,
    CLICKHOUSE_CREATE_SCHEMA: 'true',
    DISABLE_AUTH: 'true',
    LOG_LEVEL: 'error',
    ...settings,
  };
  const child = spawn(process.execPath, [new URL('../dist/main.js', import.meta.url).pathname], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  const adminUrl = `http://127.0.0.1:${healthPort}`;
  await untilReady(child, adminUrl);

  async function metric(name: string): Promise<number | undefined> {
    const text = await (await fetch(`${adminUrl}/metrics`)).text();
    const value = new RegExp(`^${name}(?:\\{\\S*\\})? (\\S+)$`, 'm').exec(text)?.[1];
    return value === undefined ? undefined : Number(value);
  }
  return {
    pid: child.pid!,
    port,
    adminUrl,
    metric,
    async drained() {
      while ((await metric('otelcol_exporter_queue_size')) !== 0 || (await metric('hive_collector_inserts_under_way')) !== 0) await sleep(50);
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
    },
  };
}

/** Runs the load generator to its end. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const { stdout } = await promisify(execFile)(process.execPath, [new URL('load.ts', import.meta.url).pathname, JSON.stringify(options)]);
  return JSON.parse(stdout) as LoadResult;
}

async function untilReady(child: ChildProcess, adminUrl: string): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const ready = await fetch(`${adminUrl}/ready`).then((response) => response.ok, () => false);
    if (ready) return;
    await sleep(50);
  }
  child.kill('SIGKILL');
  throw new Error('The collector did not become ready within 10 s.');
}
