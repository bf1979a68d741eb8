import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { type Otelcol, startOtelcol } from '../exporters/otelcol.ts';
import { post } from '../exporters/request-itself.ts';
import { everySpan } from '../exporters/spans.ts';
import { buildGo } from '../exporters/toolchains.ts';
import { sendOne } from '../support/clients/load.ts';
import type { ExpectedRow } from '../support/oracle/expected-rows.ts';
import { allRows, inOrder } from '../support/oracle/stored-rows.ts';
import { startClickHouse } from '../support/servers/clickhouse.ts';
import { startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/*
 * `npm run migrate:check`: docs/migrate-from-go-collector.md, step by step, with a real OpenTelemetry Collector that has
 * clickhouseexporter and file_storage. Needs Go and its module proxy when it runs for the first time.
 */

const TARGET = 'my-org/my-project/my-target';
const HEADERS = { 'x-hive-target-ref': TARGET };
const BATCH_TIMEOUT_MS = 1_000;

let steps = 0;
function step(what: string, holds: boolean, detail: unknown = ''): void {
  if (!holds) throw new Error(`${what}: not so. ${typeof detail === 'string' ? detail : JSON.stringify(detail)}`);
  console.log(`  ${++steps}. ${what}`);
}

const { otelcol: program } = await buildGo();
const storage = mkdtempSync(join(tmpdir(), 'file-storage-'));
const [metricsPort] = await freePorts(1);
await using clickhouse = await startClickHouse({ systemLogs: false });
try {
  await using old = await startOtelcol(program, (endpoint) => selfHosting(endpoint));
  const request = everySpan(Math.floor(Date.now() / 1_000) - 3_600);
  await post(request, old.url, {});
  await until(async () => (await allRows(clickhouse)).length === 1_006, 'the Collector has stored its spans');
  step('The Collector creates its tables and writes spans', true);

  const found = schema('check');
  step(
    '`schema check --layout otelcol` names what to change, and nothing to create anew',
    found.code === 1 && !/can't be changed in place|CREATE/.test(found.output),
    found,
  );
  const applied = schema('apply', '--deduplication-window', '10000');
  step(
    '`schema apply --layout otelcol --deduplication-window 10000` changes it in place',
    applied.code === 0 && schema('check').code === 0,
    schema('check'),
  );

  await using collector = await startCollector({ clickhouse, env: { ROW_DIALECT: 'otelcol', CLICKHOUSE_CREATE_SCHEMA: 'false' } });
  step(
    'The new collector starts on the same table, and has no ALTER to name',
    !collector.output().includes('does not deduplicate repeated inserts'),
    collector.output(),
  );

  await post(request, collector.url, HEADERS);
  const { ours, theirs } = byWriter(await allRows(clickhouse));
  const different = theirs.findIndex((row, index) => !isDeepStrictEqual(row, ours[index]));
  step(
    `The same ${theirs.length} spans by both: equal in all columns, but for hive.target_id`,
    theirs.length === ours.length && different < 0,
    [theirs[different], ours[different]],
  );

  await drain(old);
  await passOn();
} finally {
  rmSync(storage, { recursive: true });
}

/** The traces pipeline of Hive's self-hosting guide, with a queue on disk. */
function selfHosting(endpoint: string, further: Readonly<Record<string, object>> = {}): object {
  const clickhouseExporter = {
    endpoint: clickhouse.url,
    database: 'default',
    traces_table_name: 'otel_traces',
    create_schema: true,
    retry_on_failure: { initial_interval: '200ms', max_interval: '500ms' },
    sending_queue: { storage: 'file_storage' },
  };
  return {
    extensions: { file_storage: { directory: storage } },
    receivers: { otlp: { protocols: { http: { endpoint } } } },
    processors: { batch: { send_batch_size: 5_000, timeout: `${BATCH_TIMEOUT_MS}ms` } },
    exporters: { clickhouse: clickhouseExporter, ...further },
    service: {
      extensions: ['file_storage'],
      pipelines: { traces: { receivers: ['otlp'], processors: ['batch'], exporters: ['clickhouse', ...Object.keys(further)] } },
      telemetry: { metrics: { readers: [{ pull: { exporter: { prometheus: { host: '127.0.0.1', port: metricsPort } } } }] } },
    },
  };
}

function schema(command: 'check' | 'apply', ...options: string[]): { code: number; output: string } {
  const env = { PATH: process.env.PATH, CLICKHOUSE_URL: clickhouse.url };
  const args = ['dist/cli/schema.js', command, '--layout', 'otelcol', ...options];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8' });
  return { code: status ?? 1, output: stdout + stderr };
}

/** The new collector's rows are those with a target in the span's attributes, which is then taken away. */
function byWriter(rows: readonly ExpectedRow[]): { ours: ExpectedRow[]; theirs: ExpectedRow[] } {
  const { ours = [], theirs = [] } = Object.groupBy(rows, ({ SpanAttributes }) =>
    SpanAttributes['hive.target_id'] === TARGET ? 'ours' : 'theirs',
  );
  return { ours: inOrder(ours.map(withoutTarget)), theirs: inOrder(theirs) };
}

function withoutTarget(row: ExpectedRow): ExpectedRow {
  return { ...row, SpanAttributes: Object.fromEntries(Object.entries(row.SpanAttributes).filter(([key]) => key !== 'hive.target_id')) };
}

/** Step 3 of the guide: the old Collector sends a copy of its spans to the new one, which writes to another table. */
async function passOn(): Promise<void> {
  await using collector = await startCollector({ clickhouse, env: { ROW_DIALECT: 'otelcol', CLICKHOUSE_TABLE: 'compared' } });
  await using both = await startOtelcol(program, (endpoint) =>
    selfHosting(endpoint, {
      'otlphttp/hive': {
        traces_endpoint: `${collector.url}/v1/traces`,
        headers: { Authorization: 'Bearer token', 'X-Hive-Target-Ref': TARGET },
      },
    }),
  );
  const sent = await sendOne(both.url, undefined, 50);
  const stored = (table: string) =>
    clickhouse.query<{ TraceId: string; SpanId: string }>(
      `SELECT TraceId, SpanId, SpanName, Duration FROM ${table} WHERE TraceId IN ('${sent.traceIds.join("','")}') ORDER BY TraceId, SpanId`,
    );
  await until(
    async () => (await stored('compared')).length === 350 && (await stored('otel_traces')).length === 350,
    'both have stored the copy',
  );
  step(
    'The Collector sends a copy to the new one: another table, the same spans',
    isDeepStrictEqual(await stored('compared'), await stored('otel_traces')),
  );
}

/** ClickHouse is away for a while, so that there is something to drain. */
async function drain(old: Otelcol): Promise<void> {
  await clickhouse.stop();
  const sent = await Promise.all(Array.from({ length: 20 }, () => sendOne(old.url, undefined, 20)));
  await until(async () => (await queued()) > 0, 'the Collector has something in its queue');
  step(`Spans wait in the Collector: otelcol_exporter_queue_size is above 0`, true);
  await clickhouse.restart();
  await until(async () => (await queued()) === 0, 'the queue is empty');
  await delay(BATCH_TIMEOUT_MS);
  await old.stop();
  const traceIds = sent.flatMap((one) => (one.outcome === 200 ? one.traceIds : []));
  const [{ spans }] = await clickhouse.query<{ spans: number }>(
    `SELECT toUInt32(count()) AS spans FROM otel_traces WHERE TraceId IN ('${traceIds.join("','")}')`,
  );
  step(
    `It is drained when that is 0, and one batch timeout later: all ${traceIds.length * 7} spans are stored`,
    traceIds.length > 0 && spans === traceIds.length * 7,
    { spans },
  );
}

/** Batches in the Collector's queue, as its metrics have it. */
async function queued(): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  return Number(/^otelcol_exporter_queue_size(?:\{.*\})? (\d+)/m.exec(metrics)?.[1]);
}
