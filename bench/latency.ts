import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build, BUILD_SECONDS } from '../test/support/commands/build.ts';
import { type ClickHouseProxy, startProxy } from '../test/support/servers/clickhouse-proxy.ts';
import { startClickHouse } from '../test/support/servers/clickhouse.ts';
import { commandLine, positive } from '../test/support/commands/command-line.ts';
import { pollHealth } from '../test/support/clients/health-probe.ts';
import { hiveGatewayBatch } from '../test/support/generators/payloads.ts';
import { startProgress } from '../test/support/commands/progress.ts';
import { type BenchCollector, runLoad, startCollector } from './collector.ts';
import type { LoadOptions } from './load.ts';
import { memory } from './process-usage.ts';

/*
 * The response times of requests and health checks: at low load, at 70 % of the maximum, with a single exporter, and of small requests
 * during other load. With the disk buffer, and without.
 */

const usage = `Measures how long senders and health checks wait for their response, in both modes: at low load, at 70 % of full
load, with one exporter, and with other load at the same time.

npm run bench:latency -- [options]

  --seconds N   seconds per row (default 10)
  --json        one JSON object
`;
const values = commandLine(usage, { seconds: { type: 'string', default: '10' }, json: { type: 'boolean', default: false } });
const seconds = positive('--seconds', values.seconds);

const GATEWAY = { encoding: 'json', spansPerRequest: 512 } as const;
const SMALL = { encoding: 'protobuf', spansPerRequest: 11, connections: 8, rate: 100 } as const;
const WARM_UP_SECONDS = 6;
const HIGH_LOAD = 0.7;
/** In JSON, about 60 MB. */
const LARGE_SPANS = 70_000;
const MANY_TARGETS = 10_000;
const SLOW_INSERT_MS = 5_000;

interface Row {
  readonly 'spans/s': number;
  readonly refused: number;
  readonly 'ack p50 ms': number;
  readonly 'ack p99 ms': number;
  readonly 'health p99 ms': number;
  readonly 'health max ms': number;
  /** Most CPU time of the event loop during one health check. For the rest of a slow one, other processes had the cores. */
  readonly 'of it CPU ms': number;
  readonly 'memory MB': number;
}

/** Measures one load. `meanwhile` runs at the same time, until its signal is aborted. */
async function row(
  collector: BenchCollector,
  load: Omit<LoadOptions, 'port' | 'seconds'>,
  meanwhile: (signal: AbortSignal) => Promise<void> = async () => {},
): Promise<Row> {
  const over = new AbortController();
  const { result, health } = await pollHealth(collector, async () => {
    const other = meanwhile(over.signal);
    const figures = await runLoad({ ...load, port: collector.port, seconds });
    over.abort();
    await other;
    return figures;
  });
  return {
    'spans/s': Math.round(result.acknowledgedSpans / result.seconds),
    refused: result.refused,
    'ack p50 ms': round(result.p50Ms),
    'ack p99 ms': round(result.p99Ms),
    'health p99 ms': round(health.p99Ms),
    'health max ms': round(health.maxMs),
    'of it CPU ms': round(health.cpuMaxMs),
    'memory MB': Math.round(memory(collector.pid).anonymousMb),
  };
}

/** Sends large requests, one after the other, until `signal` is aborted. */
async function sendLarge({ port }: BenchCollector, signal: AbortSignal): Promise<void> {
  const { body } = hiveGatewayBatch({ spans: LARGE_SPANS, seed: 1 });
  while (!signal.aborted) {
    const { status } = await fetch(`http://127.0.0.1:${port}/v1/traces`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-hive-target-ref': 'bench/bench/large' },
      body,
    });
    if (status !== 200) await sleep(100);
  }
}

/** Loads that are measured in each mode. */
const ROWS = 7;
/** Time until all spans are stored, and for the start of the load generator. */
const BETWEEN_SECONDS = 3;

async function measure(mode: string, collector: BenchCollector, proxy: ClickHouseProxy): Promise<Record<string, Row>> {
  progress.step(`${mode}: warming up`, 2 * WARM_UP_SECONDS + BETWEEN_SECONDS);
  const saturated = await runLoad({ ...GATEWAY, port: collector.port, connections: 32, seconds: WARM_UP_SECONDS });
  await runLoad({ ...SMALL, rate: undefined, port: collector.port, seconds: WARM_UP_SECONDS });
  await collector.drained();
  const rows: Record<string, Row> = {};
  const add = async (name: string, load: Omit<LoadOptions, 'port' | 'seconds'>, meanwhile?: (signal: AbortSignal) => Promise<void>) => {
    progress.step(`${mode}: ${name.trim()}`, seconds + BETWEEN_SECONDS);
    rows[name] = await row(collector, load, meanwhile);
    await collector.drained();
  };
  const rate = (HIGH_LOAD * saturated.requests) / saturated.seconds;
  await add('5 requests/s of 512 spans', { ...GATEWAY, connections: 5, rate: 5 });
  await add('one exporter, 512 spans, back to back', { ...GATEWAY, connections: 1 });
  await add(`70 % of full load: ${Math.round(rate)} requests/s of 512 spans`, { ...GATEWAY, connections: 64, rate });
  await add('100 requests/s of 11 spans', SMALL);
  await add('  with requests of 60 MB at the same time', SMALL, (signal) => sendLarge(collector, signal));
  await add(
    '  with 10,000 targets that send in turn, as fast as they can',
    SMALL,
    async () => void (await runLoad({ ...SMALL, rate: undefined, connections: 32, targets: MANY_TARGETS, port: collector.port, seconds })),
  );
  proxy.fail({ kind: 'late answer', ms: SLOW_INSERT_MS });
  await add('  while ClickHouse takes 5 s an insert', SMALL);
  proxy.restore();
  return rows;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

using progress = startProgress(`Builds the collector, then measures ${ROWS} loads of ${seconds} s in two modes.`, {
  steps: 1 + 2 * (1 + ROWS),
  seconds: BUILD_SECONDS + 2 * (2 * WARM_UP_SECONDS + BETWEEN_SECONDS + ROWS * (seconds + BETWEEN_SECONDS)),
});
await build(progress);
{
  await using clickhouse = await startClickHouse();
  await using proxy = await startProxy(clickhouse);
  const dir = mkdtempSync(join(tmpdir(), 'bench-latency-'));
  const modes = { 'with the disk buffer': { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir }, 'in memory': {} };
  const measured: Record<string, Record<string, Row>> = {};
  for (const [mode, settings] of Object.entries(modes)) {
    await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
    await using collector = await startCollector(proxy.url, settings);
    measured[mode] = await measure(mode, collector, proxy);
  }
  rmSync(dir, { recursive: true });
  progress.clear();
  if (values.json) {
    console.log(JSON.stringify(measured, null, 2));
  } else {
    for (const [mode, rows] of Object.entries(measured)) {
      console.log(`\n${mode}`);
      console.table(rows);
    }
  }
}
