import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { startOtelcol } from '../test/exporters/otelcol.ts';
import { buildGo, installRotel } from '../test/exporters/toolchains.ts';
import { freePorts } from '../test/support/servers/free-ports.ts';
import type { Server } from './collector.ts';
import type { Subject } from './subjects.ts';

/*
 * Other collectors that write OTLP traces to ClickHouse, as they come, but for the table: it is ours, so that all have the
 * same indexes. Both acknowledge what they have in memory.
 */

/** For what was acknowledged to be in the table. */
const LONGEST_WAIT_MS = 60_000;

/** The OpenTelemetry Collector with its batch processor and clickhouseexporter. Needs Go. */
export const otelcol: Subject = {
  name: 'otelcol (Go)',
  stores: true,
  mayLose: true,
  async start(clickhouseUrl) {
    const { otelcol: program } = await buildGo();
    createTable(clickhouseUrl);
    const running = await startOtelcol(program, (endpoint) => ({
      receivers: { otlp: { protocols: { http: { endpoint } } } },
      processors: { batch: {} },
      exporters: { clickhouse: { endpoint: clickhouseUrl, create_schema: false } },
      service: { pipelines: { traces: { receivers: ['otlp'], processors: ['batch'], exporters: ['clickhouse'] } }, telemetry: { metrics: { level: 'none' } } },
    }));
    return { pid: running.pid, port: Number(new URL(running.url).port), drained: (spans) => stored(clickhouseUrl, spans), [Symbol.asyncDispose]: () => running[Symbol.asyncDispose]() };
  },
};

/** Streamfold's collector, from PyPI. Needs Python's pip; takes no JSON with attributes that have no value, as Hive Gateway sends it. */
export const rotel: Subject = {
  name: 'rotel (Rust)',
  stores: true,
  mayLose: true,
  async start(clickhouseUrl) {
    const program = await installRotel();
    createTable(clickhouseUrl);
    const [port, grpcPort] = await freePorts(2);
    const receiver = ['--otlp-http-endpoint', `127.0.0.1:${port}`, '--otlp-grpc-endpoint', `127.0.0.1:${grpcPort}`];
    const exporter = ['--exporter', 'clickhouse', '--clickhouse-exporter-endpoint', clickhouseUrl, '--clickhouse-exporter-database', 'default'];
    return serve(spawn(program, ['start', ...receiver, ...exporter], { stdio: ['ignore', 'ignore', 'inherit'] }), port, clickhouseUrl);
  },
};

function createTable(clickhouseUrl: string): void {
  execFileSync(process.execPath, ['dist/cli/schema.js', 'apply'], { env: { ...process.env, CLICKHOUSE_URL: clickhouseUrl } });
}

async function serve(child: ChildProcess, port: number, clickhouseUrl: string): Promise<Server> {
  while (!(await fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false))) {
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

/** They say nothing of their queues: waits for the rows. Those that do not come are counted as lost. */
async function stored(clickhouseUrl: string, spans: number): Promise<void> {
  const deadlineMs = performance.now() + LONGEST_WAIT_MS;
  const rows = async () => Number(await (await fetch(clickhouseUrl, { method: 'POST', body: 'SELECT count() FROM otel_traces' })).text());
  while ((await rows()) < spans && performance.now() < deadlineMs) await sleep(50);
}
