import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { createClickHouseClient } from '../../src/storage/clickhouse.ts';
import { checkTable } from '../../src/storage/table-check.ts';
import { blockOf, insertBlock } from '../support/blocks.ts';
import { startClickHouse, type TestClickHouse } from '../support/clickhouse.ts';
import type { KeyValue, OtlpRequest } from '../support/otlp-request.ts';

const program = fileURLToPath(new URL('../../src/schema.ts', import.meta.url));
const CLUSTER = '<remote_servers><one><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></one></remote_servers>';

let clickhouse: TestClickHouse;

/** Part of a cluster of its own, so that Distributed tables can be tried out. */
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false, configuration: CLUSTER });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());
beforeEach(() => clickhouse.command('DROP DATABASE IF EXISTS traces SYNC'));

/** Runs the command, without ClickHouse's URL where `env` takes it away. */
function schema(args: readonly string[], env: Record<string, string | undefined> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_DATABASE: 'traces', ...env },
  });
  return { status, stdout, stderr };
}

async function names(): Promise<string[]> {
  const tables = await clickhouse.query<{ name: string }>("SELECT name FROM system.tables WHERE database = 'traces' ORDER BY name");
  return tables.map(({ name }) => name);
}

async function ttl(): Promise<string> {
  const [row] = await clickhouse.query<{ ttl: string }>("SELECT extract(engine_full, 'TTL (.*) SETTINGS') AS ttl FROM system.tables WHERE database = 'traces'");
  return row.ttl;
}

function statements(...args: string[]): string[] {
  const { stdout } = schema(['print', ...args], { CLICKHOUSE_URL: undefined });
  return stdout.split(';\n').map((statement) => statement.trim()).filter(Boolean);
}

const LOCAL = ['otel_traces_local', 'otel_traces_normalized_local', 'otel_traces_trace_id_ts_local'];

test('print ends quietly when its reader has seen enough', () => {
  const { stdout, stderr } = spawnSync('sh', ['-c', '"$0" "$1" print --layout hive | head -n 1', process.execPath, program], { encoding: 'utf8' });
  expect({ stdout, stderr }).toEqual({ stdout: 'CREATE DATABASE IF NOT EXISTS `default`;\n', stderr: '' });
});

describe('apply', () => {
  test('is for each server of CLICKHOUSE_URL, and check says whose table differs', async () => {
    await using other = await startClickHouse({ systemLogs: false });
    const both = { CLICKHOUSE_URL: `${clickhouse.url},${other.url}` };
    expect(schema(['apply']).status).toBe(0);
    const { status, stdout } = schema(['check'], both);
    expect(stdout).toMatch(new RegExp(`^${clickhouse.url}\nThe schema is as it should be.*\n${other.url}\nThe database traces does not exist`));
    expect(status).toBe(1);
    expect(schema(['apply'], both).status).toBe(0);
    expect(schema(['check'], both).status).toBe(0);
    expect(await other.query("SELECT name FROM system.tables WHERE database = 'traces'")).toEqual([{ name: 'otel_traces' }]);
  });

  test.each([
    { args: [], tables: ['otel_traces'] },
    { args: ['--layout', 'otelcol'], tables: ['otel_traces', 'otel_traces_trace_id_ts', 'otel_traces_trace_id_ts_mv'] },
    { args: ['--layout', 'hive'], tables: ['otel_traces', 'otel_traces_normalized', 'otel_traces_normalized_mv', 'otel_traces_trace_id_ts', 'otel_traces_trace_id_ts_mv'] },
    {
      args: ['--layout', 'hive', '--distributed', 'one'],
      tables: ['otel_traces', 'otel_traces_normalized', 'otel_traces_normalized_mv', 'otel_traces_trace_id_ts', 'otel_traces_trace_id_ts_mv', ...LOCAL].toSorted(),
    },
  ])('creates the schema of $args, and has nothing to do the second time', async ({ args, tables }) => {
    expect(schema(['check', ...args])).toMatchObject({ status: 1, stdout: expect.stringContaining('The database traces does not exist: apply would run') });
    expect(schema(['apply', ...args]).status).toBe(0);
    expect(await names()).toEqual(tables);
    expect(schema(['apply', ...args])).toMatchObject({ status: 0, stdout: 'Nothing to do.\n' });
    expect(schema(['check', ...args])).toMatchObject({ status: 0, stdout: 'The schema is as it should be (version 2).\n' });
  });

  test('brings the table that collectors created before there were versions up to date, and keeps what is in it', async () => {
    await clickhouse.command('CREATE DATABASE traces');
    const [, created] = statements();
    const before = created
      .replace("COMMENT 'hive-otel-collector schema 2'", '')
      .replace('non_replicated_deduplication_window = 10000', 'non_replicated_deduplication_window = 100')
      .replace(/,\n {2}INDEX idx_duration .*/, '')
      .replace('`SpanName` LowCardinality(String)', '`SpanName` String')
      .replace('`Timestamp` DateTime64(9)', "`Timestamp` DateTime64(9, 'UTC')")
      .replace(/ {2}`StatusMessage` .*\n/, '');
    await clickhouse.command(before);
    await clickhouse.command("INSERT INTO traces.otel_traces (Timestamp, SpanName) VALUES (now64(9), 'kept')");
    const { status, stdout } = schema(['apply']);
    expect(stdout.trimEnd().split('\n')).toEqual([
      'otel_traces has no column StatusMessage: changed',
      'otel_traces has no index idx_duration: changed',
      'otel_traces has non_replicated_deduplication_window = 100, not 10000: changed',
      "otel_traces has no comment 'hive-otel-collector schema 2': changed",
    ]);
    expect(status).toBe(0);
    expect(schema(['apply']).stdout).toBe('Nothing to do.\n');
    expect(await clickhouse.query('SELECT SpanName, StatusMessage FROM traces.otel_traces')).toEqual([{ SpanName: 'kept', StatusMessage: '' }]);
  });

  test('changes the TTL only when it is told to', async () => {
    schema(['apply', '--ttl-days', '30']);
    expect(await ttl()).toBe('toDate(Timestamp) + toIntervalDay(30)');
    expect(schema(['apply']).stdout).toBe('Nothing to do.\n');
    expect(schema(['apply', '--ttl-days', '0']).status).toBe(0);
    expect(await ttl()).toBe('');
    expect(schema(['apply', '--ttl-days', '90']).status).toBe(0);
    expect(await ttl()).toBe('toDate(Timestamp) + toIntervalDay(90)');
  });

  test('adds the look-up and the roots to a table that is there', () => {
    schema(['apply']);
    expect(schema(['apply', '--layout', 'hive'])).toMatchObject({ status: 0, stdout: expect.stringMatching(/^otel_traces_trace_id_ts does not exist: created\n/) });
  });

  test('mends the query of a view', async () => {
    schema(['apply', '--layout', 'otelcol']);
    await clickhouse.command('ALTER TABLE traces.otel_traces_trace_id_ts_mv MODIFY QUERY SELECT TraceId, min(Timestamp) AS Start, min(Timestamp) AS End FROM traces.otel_traces GROUP BY TraceId');
    expect(schema(['check', '--layout', 'otelcol'])).toMatchObject({ status: 1, stdout: expect.stringContaining('otel_traces_trace_id_ts_mv has another query') });
    expect(schema(['apply', '--layout', 'otelcol']).status).toBe(0);
  });

  test('says what it can not change', async () => {
    await clickhouse.command('CREATE DATABASE traces');
    await clickhouse.command(statements()[1].replace('`Duration` UInt64', '`Duration` UInt32').replace('ORDER BY (ServiceName, SpanName', 'ORDER BY (SpanName'));
    const { status, stdout } = schema(['apply']);
    expect(stdout).toBe(
      "otel_traces.Duration is UInt32, not UInt64: can't be changed in place\n" +
        "otel_traces is ordered by SpanName, toDateTime(Timestamp), not by ServiceName, SpanName, toDateTime(Timestamp): can't be changed in place\n",
    );
    expect(status).toBe(1);
    expect(schema(['check', '--replicated']).stdout).toContain('otel_traces has the engine MergeTree, not ReplicatedMergeTree');
  });

  test('leaves a schema of a newer collector alone', async () => {
    schema(['apply']);
    await clickhouse.command("ALTER TABLE traces.otel_traces MODIFY COMMENT 'hive-otel-collector schema 3', DROP INDEX idx_duration");
    expect(schema(['apply'])).toMatchObject({ status: 1, stderr: expect.stringContaining('made by a newer collector') });
    expect(await clickhouse.query("SELECT name FROM system.data_skipping_indices WHERE database = 'traces' AND name = 'idx_duration'")).toEqual([]);
  });
});

describe('print', () => {
  test.each([
    ['--layout', 'hive'],
    ['--layout', 'hive', '--replicated', '--on-cluster', '{cluster}', '--distributed', 'one', '--ttl-days', '0'],
    ['--replicated', '--replica-path', '/tables/{uuid}/{shard}', '--replica-name', 'r-1'],
  ])('writes statements that ClickHouse can read: %j', async (...args) => {
    const printed = statements(...args);
    expect(printed.length).toBeGreaterThanOrEqual(2);
    for (const statement of printed) {
      const [{ valid }] = await clickhouse.query<{ valid: number }>(`SELECT isNotNull(formatQueryOrNull($sql$${statement}$sql$)) AS valid`);
      expect(valid, statement).toBe(1);
    }
  });

  test('puts every statement on the cluster, and each table under a path of its own', () => {
    const printed = statements('--layout', 'hive', '--replicated', '--on-cluster', '{cluster}', '--distributed', 'one');
    expect(printed).toHaveLength(9);
    for (const statement of printed) expect(statement).toContain('ON CLUSTER `{cluster}`');
    const engines = printed.flatMap((statement) => /ENGINE = .*/.exec(statement)?.[0] ?? []);
    expect(engines).toEqual([
      "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/traces/otel_traces_local', '{replica}')",
      "ENGINE = Distributed('one', 'traces', 'otel_traces_local', cityHash64(TraceId))",
      "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/traces/otel_traces_trace_id_ts_local', '{replica}')",
      "ENGINE = Distributed('one', 'traces', 'otel_traces_trace_id_ts_local', cityHash64(TraceId))",
      "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/traces/otel_traces_normalized_local', '{replica}')",
      "ENGINE = Distributed('one', 'traces', 'otel_traces_normalized_local', cityHash64(trace_id))",
    ]);
    expect(printed.filter((statement) => statement.includes('replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800'))).toHaveLength(3);
  });

  test('takes the layout of the rows', () => {
    expect(schema(['print'], { ROW_DIALECT: 'otelcol' }).stdout).toContain('otel_traces_trace_id_ts_mv');
  });
});

const root: KeyValue[] = [
  { key: 'http.status_code', value: { intValue: 200n } },
  { key: 'hive.graphql.operation.name', value: { stringValue: 'Me' } },
  { key: 'hive.graphql.operation.type', value: { stringValue: 'query' } },
  { key: 'hive.graphql.error.count', value: { intValue: 2n } },
  { key: 'hive.graphql.error.codes', value: { stringValue: 'A,B' } },
  { key: 'hive.subgraph.names', value: { stringValue: 'users,posts' } },
];

function trace(id: number): OtlpRequest {
  const traceId = Buffer.alloc(16, id);
  const times = { startTimeUnixNano: 1_763_000_000_500_000_000n, endTimeUnixNano: 1_763_000_001_500_000_000n };
  const none = { attributes: [], events: [], links: [] };
  const spans = [
    { traceId, spanId: Buffer.alloc(8, 1), name: 'POST /graphql', ...times, ...none, attributes: root },
    { traceId, spanId: Buffer.alloc(8, 2), parentSpanId: Buffer.alloc(8, 1), name: 'fetch', ...times, ...none },
  ];
  return { resourceSpans: [{ scopeSpans: [{ spans }] }] };
}

describe('the layout of Hive', () => {
  test.each([{ args: [] }, { args: ['--distributed', 'one'] }])('lists the roots of traces, and when each trace was, once over retries; with $args', async ({ args }) => {
    schema(['apply', '--layout', 'hive', ...args, '--ttl-days', '0']);
    for (let copy = 0; copy < 2; copy++) {
      await insertBlock(clickhouse, blockOf(trace(7), 'hive', 'my target'), 'traces.otel_traces', { insert_deduplication_token: 'one', distributed_foreground_insert: 1, deduplicate_blocks_in_dependent_materialized_views: 1 });
    }
    expect(await clickhouse.query('SELECT * FROM traces.otel_traces_normalized')).toEqual([
      {
        target_id: 'my target',
        trace_id: '07'.repeat(16),
        span_id: '01'.repeat(8),
        timestamp: '2025-11-13 02:13:20',
        duration: '1000000000',
        http_status_code: '200',
        http_method: '',
        http_host: '',
        http_route: '',
        http_url: '',
        client_name: '',
        client_version: '',
        graphql_operation_name: 'Me',
        graphql_operation_type: 'query',
        graphql_operation_document: '',
        graphql_error_count: 2,
        graphql_error_codes: ['A', 'B'],
        subgraph_names: ['users', 'posts'],
      },
    ]);
    expect(await clickhouse.query('SELECT TraceId, toUnixTimestamp(Start) AS start FROM traces.otel_traces_trace_id_ts')).toEqual([{ TraceId: '07'.repeat(16), start: 1_763_000_000 }]);
    expect(await clickhouse.query('SELECT count() AS spans FROM traces.otel_traces')).toEqual([{ spans: '2' }]);
  });
});

async function warnings(): Promise<string[]> {
  const config = loadConfig({ CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_DATABASE: 'traces', DISABLE_AUTH: 'true' });
  const client = createClickHouseClient(config);
  try {
    return await checkTable(client, config);
  } finally {
    await client.close();
  }
}

describe('the check of a Distributed table', () => {
  test('has nothing to say of ours', async () => {
    schema(['apply', '--layout', 'hive', '--distributed', 'one']);
    expect(await warnings()).toEqual([]);
  });

  test('warns of a shard that does not recognise repeated inserts', async () => {
    schema(['apply', '--distributed', 'one']);
    await clickhouse.command('ALTER TABLE traces.otel_traces_local MODIFY SETTING non_replicated_deduplication_window = 0');
    expect(await warnings()).toEqual([expect.stringMatching(/^The table traces\.otel_traces_local \(shard 1, .*\) does not recognise repeated inserts.* ALTER TABLE `traces`\.`otel_traces_local` MODIFY SETTING/)]);
  });
});

describe('a command line that can not be followed', () => {
  test.each([
    [['destroy'], 'There is no command destroy'],
    [['apply', 'twice'], 'twice is one argument too many'],
    [['apply', '--layout', 'jaeger'], '--layout is jaeger. Allowed: spans, otelcol, hive.'],
    [['apply', '--ttl-days', 'never'], '--ttl-days is never. Allowed: a whole number from 0 to 36500.'],
    [['apply', '--replica-name', 'a'], 'go with --replicated'],
    [['apply', '--replicated', '--replica-path', '/one/for/all'], 'as each table needs its own'],
    [['apply', '--on-cluster', "x'; DROP"], '--on-cluster is "x\'; DROP"'],
    [['apply', '--colour'], "Unknown option '--colour'"],
  ])('%j', (args, message) => {
    expect(schema(args)).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining(message) });
  });

  test('apply without CLICKHOUSE_URL', () => {
    expect(schema(['apply'], { CLICKHOUSE_URL: undefined })).toMatchObject({ status: 2, stderr: expect.stringContaining('CLICKHOUSE_URL is not set') });
  });

  test('a ClickHouse that is not there', () => {
    expect(schema(['check'], { CLICKHOUSE_URL: 'http://127.0.0.1:1' })).toMatchObject({ status: 1, stderr: expect.stringContaining('ECONNREFUSED') });
  });

  test('--help explains it', () => {
    expect(schema(['--help'])).toMatchObject({ status: 0, stdout: expect.stringContaining('npm run schema -- apply') });
  });
});
