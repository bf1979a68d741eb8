import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePorts } from '../test/support/servers/free-ports.ts';
import type { LoadOptions, LoadResult } from './load.ts';

export type Settings = Readonly<Record<string, string>>;

/** A server for spans, in a separate process. */
export interface Server extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  /**
   * Resolves when this number of spans, all that were acknowledged since the table was empty, is in ClickHouse.
   * @param pollMs how often the collector is asked for its queue
   */
  drained(spans: number, pollMs?: number): Promise<void>;
}

/** The built collector. */
export interface BenchCollector extends Server {
  /** The URL of the port for health and metrics. */
  readonly adminUrl: string;
  /** Resolves when all acknowledged spans are in ClickHouse: the collector reports its queue. */
  drained(spans?: number, pollMs?: number): Promise<void>;
  /** The value of a metric without labels; undefined if there is none of that name. */
  metric(name: string): Promise<number | undefined>;
}

/** dist/ of this checkout. */
export const DIST = fileURLToPath(new URL('../dist', import.meta.url));

/** Starts the collector and waits until it accepts spans. It gets no variable of the shell except PATH. @throws when it does not start */
export async function startCollector(clickhouseUrl: string, settings: Settings, dist = DIST): Promise<BenchCollector> {
  const [port, healthPort, healthcheckPort] = await freePorts(3);
  const env = {
    PATH: process.env.PATH,
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
  const child = spawn(process.execPath, [join(dist, 'main.js')], { env, stdio: ['ignore', 'ignore', 'inherit'] });
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
    async drained(_spans, pollMs = 50) {
      while ((await metric('otelcol_exporter_queue_size')) !== 0 || (await metric('hive_collector_inserts_under_way')) !== 0)
        await sleep(pollMs);
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
    },
  };
}

/** Answers may come this much later than the end of the load. */
const LAST_ANSWERS_MS = 60_000;

/**
 * Runs a load generator to its end.
 * @param generator raw-load.ts uses less CPU, but has no rate and no latencies, and fails at the first refusal
 * @throws Error when a connection ends without an answer, or answers are missing LAST_ANSWERS_MS after the load
 */
export async function runLoad(options: LoadOptions, generator: 'load.ts' | 'raw-load.ts' = 'load.ts'): Promise<LoadResult> {
  const args = [new URL(generator, import.meta.url).pathname, JSON.stringify(options)];
  const timeout = options.seconds * 1000 + LAST_ANSWERS_MS;
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout }).catch((error: { stderr: string }) => {
    const message = /Error: (.+)/.exec(error.stderr)?.[1] ?? `Answers are missing ${LAST_ANSWERS_MS / 1000} s after the load's end.`;
    throw new Error(message, { cause: error });
  });
  return JSON.parse(stdout) as LoadResult;
}

const START_TIMEOUT_MS = 60_000;

async function untilReady(child: ChildProcess, adminUrl: string): Promise<void> {
  const deadlineMs = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadlineMs) {
    const ready = await fetch(`${adminUrl}/ready`).then(
      (response) => response.ok,
      () => false,
    );
    if (ready) return;
    if (child.exitCode !== null) throw new Error(`The collector ended with ${child.exitCode}.`);
    await sleep(50);
  }
  child.kill('SIGKILL');
  throw new Error('The collector did not become ready within a minute.');
}
