import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { startOtelcol } from '../test/exporters/otelcol.ts';
import { buildGo, installRotel } from '../test/exporters/toolchains.ts';
import { freePorts } from '../test/support/servers/free-ports.ts';
import type { Server } from './collector.ts';
import type { Subject } from './subjects.ts';

/*
 * Other collectors that write OTLP traces to ClickHouse, with their default settings, except for the table: it is this collector's, so
 * that all have the same indexes. Both acknowledge spans that are only in memory.
 */

/** After this time without a new row, the missing spans count as lost. */
const QUIET_MS = 30_000;

let built: ReturnType<typeof buildGo> | undefined;
const buildOnce = () => (built ??= buildGo());

/** The OpenTelemetry Collector with its batch processor and clickhouseexporter. Needs Go. */
export const otelcol: Subject = {
  name: 'OpenTelemetry Collector',
  stores: true,
  mayLose: true,
  prepare: buildOnce,
  async start(clickhouseUrl) {
    const { otelcol: program } = await buildOnce();
    createTable(clickhouseUrl);
    const running = await startOtelcol(program, (endpoint) => ({
      receivers: { otlp: { protocols: { http: { endpoint } } } },
      processors: { batch: {} },
      exporters: { clickhouse: { endpoint: clickhouseUrl, create_schema: false } },
      service: {
        pipelines: { traces: { receivers: ['otlp'], processors: ['batch'], exporters: ['clickhouse'] } },
        telemetry: { metrics: { level: 'none' } },
      },
    }));
    return {
      pid: running.pid,
      port: Number(new URL(running.url).port),
      drained: (spans) => stored(clickhouseUrl, spans),
      [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
    };
  },
};

/** Streamfold's collector, from PyPI. Needs pip; does not accept JSON with attributes without a value, as Hive Gateway sends it. */
export const rotel: Subject = {
  name: 'rotel',
  stores: true,
  mayLose: true,
  prepare: installRotel,
  async start(clickhouseUrl) {
    const program = await installRotel();
    createTable(clickhouseUrl);
    const [port, grpcPort] = await freePorts(2);
    const receiver = ['--otlp-http-endpoint', `127.0.0.1:${port}`, '--otlp-grpc-endpoint', `127.0.0.1:${grpcPort}`];
    const exporter = [
      '--exporter',
      'clickhouse',
      '--clickhouse-exporter-endpoint',
      clickhouseUrl,
      '--clickhouse-exporter-database',
      'default',
    ];
    const env = { PATH: process.env.PATH };
    return serve(spawn(program, ['start', ...receiver, ...exporter], { env, stdio: ['ignore', 'ignore', 'inherit'] }), port, clickhouseUrl);
  },
};

/** Creates this collector's table. */
function createTable(clickhouseUrl: string): void {
  execFileSync(process.execPath, ['dist/cli/schema.js', 'apply'], { env: { PATH: process.env.PATH, CLICKHOUSE_URL: clickhouseUrl } });
}

/** Resolves when the program accepts requests. @throws Error when it exits */
async function serve(child: ChildProcess, port: number, clickhouseUrl: string): Promise<Server> {
  while (
    !(await fetch(`http://127.0.0.1:${port}/`).then(
      () => true,
      () => false,
    ))
  ) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with ${child.exitCode}.`);
    await sleep(50);
  }
  return {
    pid: child.pid!,
    port,
    drained: (spans) => stored(clickhouseUrl, spans),
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
    },
  };
}

/** Resolves when `spans` are stored, or no new rows come: these collectors do not report their queues. */
async function stored(clickhouseUrl: string, spans: number): Promise<void> {
  const count = async () => Number(await (await fetch(clickhouseUrl, { method: 'POST', body: 'SELECT count() FROM otel_traces' })).text());
  let last = { rows: 0, atMs: performance.now() };
  while (last.rows < spans && performance.now() - last.atMs < QUIET_MS) {
    await sleep(50);
    const rows = await count();
    if (rows > last.rows) last = { rows, atMs: performance.now() };
  }
}
