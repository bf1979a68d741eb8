import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { expectStoredAsAnswered, type Load, SPANS_PER_TRACE, startLoad } from '../support/clients/load.ts';
import type { TestClickHouse } from '../support/servers/clickhouse.ts';
import { CLUSTER_NAME, startCluster, type TestCluster } from '../support/servers/cluster.ts';
import { type Collector, type Environment, runProgram, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/* Two collectors, each with a disk buffer of its own, before a cluster of two ClickHouse servers: docs/scaling.md. */

const LOCAL_TABLES = ['otel_traces_local', 'otel_traces_trace_id_ts_local', 'otel_traces_normalized_local'];

let cluster: TestCluster;
let first: TestClickHouse;
let second: TestClickHouse;
let dir = '';

beforeAll(async () => {
  cluster = await startCluster();
  for (const { url } of cluster.servers) await createTables(url);
  [first, second] = cluster.servers;
  dir = mkdtempSync(join(tmpdir(), 'scaling-'));
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});
beforeEach(async () => {
  for (const server of cluster.servers) for (const table of LOCAL_TABLES) await server.command(`TRUNCATE TABLE ${table}`);
});

/** A Distributed table over the shards' own, and Hive's look-ups. */
async function createTables(url: string): Promise<void> {
  const { code, output } = await runProgram(
    ['apply', '--layout', 'hive', '--distributed', CLUSTER_NAME],
    { CLICKHOUSE_URL: url },
    'cli/schema',
  );
  expect(code, output).toBe(0);
}

/** A collector as an operator sets it up; started again with the same settings, it is the same one after a crash. */
async function settingsOf(name: string): Promise<Environment> {
  const [port, healthPort, healthcheckPort] = await freePorts(3);
  return {
    PORT: String(port),
    HEALTH_PORT: String(healthPort),
    HEALTHCHECK_PORT: String(healthcheckPort),
    CLICKHOUSE_URL: cluster.urls,
    CLICKHOUSE_CREATE_SCHEMA: 'false',
    ENABLE_DISK_BUFFER: 'true',
    DISK_BUFFER_DIR: join(dir, name),
    DISK_BUFFER_MAX_SIZE_MB: '16',
    BATCH_TIMEOUT_MS: '50',
  };
}

const startReady = (env: Environment) => startCollector({ clickhouse: first, env });

async function untilMoreAcknowledged(loads: readonly Load[], requests: number): Promise<void> {
  const goals = loads.map((load) => load.acknowledged() + requests);
  await until(() => loads.every((load, i) => load.acknowledged() >= goals[i]), `${requests} more requests are acknowledged by each`);
}

async function untilDrained(collectors: readonly Collector[]): Promise<void> {
  for (const collector of collectors) {
    const isDrained = async () => {
      const metrics = await collector.metrics();
      return metrics.get('otelcol_exporter_queue_size') === 0 && metrics.get('hive_collector_disk_buffer_used_bytes') === 0;
    };
    await until(isDrained, 'the disk buffer is empty', 60_000).catch(async (error: unknown) => {
      throw new Error(`What keeps it: ${await (await fetch(`${collector.adminUrl}/health`)).text()}`, { cause: error });
    });
  }
}

/** Read through the Distributed tables, at either server: every acknowledged span once, and so what views make of them. */
async function expectStoredOnce(loads: readonly Load[]): Promise<void> {
  const sent = (await Promise.all(loads.map((load) => load.stop()))).flat();
  for (const server of cluster.servers) {
    await expectStoredAsAnswered(server, sent);
    expect(await server.query('SELECT count() > 0 AND count() = uniqExact(trace_id, span_id) AS once FROM otel_traces_normalized')).toEqual(
      [{ once: 1 }],
    );
  }
}

/** Where each trace is: whole, and on one shard. */
async function tracesOn(server: TestClickHouse): Promise<string[]> {
  const traces = await server.query<{ TraceId: string; spans: string }>(
    'SELECT TraceId, count() AS spans FROM otel_traces_local GROUP BY TraceId',
  );
  expect(new Set(traces.map(({ spans }) => Number(spans)))).toEqual(new Set([SPANS_PER_TRACE]));
  return traces.map(({ TraceId }) => TraceId);
}

describe('two collectors before two shards', () => {
  test('store what either has acknowledged once, each trace on one shard', async () => {
    const settings = await Promise.all([settingsOf('calm-1'), settingsOf('calm-2')]);
    await using one = await startReady(settings[0]);
    await using other = await startReady(settings[1]);
    const loads = [one, other].map(({ url }) => startLoad(url, { senders: 8 }));
    await untilMoreAcknowledged(loads, 200);
    for (const load of loads) await load.stop();
    await untilDrained([one, other]);

    await expectStoredOnce(loads);
    const [here, there] = [await tracesOn(first), await tracesOn(second)];
    expect(here.length).toBeGreaterThan(0);
    expect(there.length).toBeGreaterThan(0);
    expect(new Set(here).isDisjointFrom(new Set(there))).toBe(true);
    expect(one.output() + other.output()).not.toMatch(/"level":[456]0,.*"context":"ClickHouse"/);
  });

  test('do so while each server, and a collector, is killed and started again', { timeout: 180_000 }, async () => {
    const settings = await Promise.all([settingsOf('chaos-1'), settingsOf('chaos-2')]);
    await using one = await startReady(settings[0]);
    const killed = await startReady(settings[1]);
    const loads = [one, killed].map(({ url }) => startLoad(url, { senders: 8, pauseMs: 5 }));
    await untilMoreAcknowledged(loads, 100);

    // Both collectors insert by way of the first server; the second has a part of each insert.
    await second.kill();
    await untilMoreAcknowledged(loads, 100);
    await second.restart();
    await untilMoreAcknowledged(loads, 100);

    await first.kill();
    await untilMoreAcknowledged(loads, 100);
    await killed.kill();
    await using restarted = await startCollector({ env: settings[1] });
    await untilMoreAcknowledged(loads, 100);
    await first.restart();
    await untilMoreAcknowledged(loads, 100);

    await restarted.kill();
    await using again = await startReady(settings[1]);
    await untilMoreAcknowledged(loads, 100);
    for (const load of loads) await load.stop();
    await untilDrained([one, again]);
    await expectStoredOnce(loads);
    await tracesOn(first);
    await tracesOn(second);
  });
});
