import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse } from '../support/servers/clickhouse.ts';
import { parseMetrics, startCollector, until } from '../support/servers/collector.ts';

/** Names of the OpenTelemetry Collector that its dashboards ask for, with the suffixes Prometheus gives them. */
const OTELCOL = [
  'otelcol_receiver_accepted_spans_total',
  'otelcol_receiver_refused_spans_total',
  'otelcol_exporter_sent_spans_total',
  'otelcol_exporter_send_failed_spans_total',
  'otelcol_exporter_queue_size',
  'otelcol_exporter_queue_capacity',
  'otelcol_process_uptime_seconds_total',
  'otelcol_process_cpu_seconds_total',
  'otelcol_process_memory_rss_bytes',
  'otelcol_process_runtime_heap_alloc_bytes',
];

test('what /metrics says is complete, documented, and adds up', async () => {
  await using clickhouse = await startClickHouse({ systemLogs: false });
  await using collector = await startCollector({ clickhouse, env: { METRICS_TOP_TARGETS: '2' } });
  for (const [target, spans] of [
    ['large', 70],
    ['small', 7],
    ['medium', 21],
  ] as const) {
    expect((await collector.send(gatewayProtobuf({ spans, seed: spans }).body, { 'x-hive-target-ref': target })).status).toBe(200);
  }
  // An ingest thread tells the main thread of them behind its answer.
  const ofTheLast = async () => (await collector.metrics()).get('hive_collector_target_spans_total{target="medium"}');
  await until(async () => (await ofTheLast()) === 21, 'the targets are counted');
  const text = (await send(`${collector.adminUrl}/metrics`, '', { method: 'GET' })).body.toString();
  const metrics = parseMetrics(text);
  const types = new Map(Array.from(text.matchAll(/^# TYPE (\w+) (\w+)$/gm), ([, name, type]) => [name, type]));

  expect(OTELCOL.filter((name) => !metrics.has(name))).toEqual([]);

  const own = Array.from(text.matchAll(/^# HELP ((?:otelcol|hive_collector)_\w+) (.*)$/gm), ([, name, help]) => ({ name, help }));
  expect(own.length).toBeGreaterThan(50);
  for (const { name, help } of own) {
    expect(help, name).toMatch(/^.{12,}[.]$/);
    expect(name.endsWith('_total'), name).toBe(types.get(name) === 'counter');
  }

  // Only values that are known beforehand, except for the targets that were asked for.
  const labels = new Set(
    Array.from(text.matchAll(/^(?:otelcol|hive_collector)_\w+\{(.*)\}/gm), ([, inside]) =>
      [...inside.matchAll(/(\w+)="/g)].map(([, label]) => label),
    ).flat(),
  );
  expect([...labels].toSorted()).toEqual(['exporter', 'le', 'node', 'reason', 'receiver', 'target', 'thread', 'transport', 'version']);
  expect([...metrics].filter(([series]) => series.startsWith('hive_collector_target_spans_total{'))).toEqual([
    ['hive_collector_target_spans_total{target="large"}', 70],
    ['hive_collector_target_spans_total{target="medium"}', 21],
  ]);

  for (const name of [
    'hive_collector_acknowledge_seconds',
    'hive_collector_insert_seconds',
    'hive_collector_insert_spans',
    'hive_collector_block_bytes',
  ]) {
    expect(types.get(name), name).toBe('histogram');
    expect(metrics.get(`${name}_count`), name).toBe(3);
    expect(metrics.get(`${name}_bucket{le="+Inf"}`), name).toBe(3);
    expect(metrics.get(`${name}_sum`), name).toBeGreaterThan(0);
  }
  // Nobody was asked: DISABLE_AUTH.
  expect([types.get('hive_collector_auth_lookup_seconds'), metrics.get('hive_collector_auth_lookup_seconds_count')]).toEqual([
    'histogram',
    0,
  ]);
  expect(metrics.get('hive_collector_insert_spans_bucket{le="10"}')).toBe(1);
  expect(metrics.get('hive_collector_inserts_per_second')).toBeGreaterThan(0);
  expect(metrics.get('hive_collector_spans_per_insert')).toBeCloseTo(metrics.get('hive_collector_insert_spans_sum')! / 3);
  expect(metrics.get('hive_collector_insert_spans_bucket{le="100"}')).toBe(3);

  const named = new Set(
    readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8').match(
      /\b(otelcol|hive_collector|nodejs)_[a-z0-9_]*[a-z0-9]/g,
    ),
  );
  expect(named.size).toBeGreaterThan(20);
  expect([...named].filter((name) => !types.has(name.replace(/_bucket$/, '')))).toEqual([]);
});
