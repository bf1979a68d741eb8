import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { createClickHouseClient } from '../../src/storage/clickhouse.ts';
import { checkTable } from '../../src/storage/table-check.ts';
import { blockOf, insertBlock } from '../support/generators/blocks.ts';
import { clientRequests, firstSecond } from '../support/oracle/hive-requests.ts';
import { hiveStatements } from '../support/oracle/hive-tables.ts';
import type { OtlpRequest } from '../support/oracle/otlp-request.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';

const program = fileURLToPath(new URL('../../src/cli/schema.ts', import.meta.url));
const CLUSTER = '<remote_servers><one><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></one></remote_servers>';

const ABROAD = '<profiles><default><session_timezone>America/St_Johns</session_timezone></default></profiles>';

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

/** The statements of all tables, as ClickHouse keeps them. */
async function created(): Promise<{ name: string; create_table_query: string }[]> {
  return clickhouse.query("SELECT name, create_table_query, comment FROM system.tables WHERE database = 'traces' ORDER BY name");
}

async function ttl(): Promise<string> {
  const [row] = await clickhouse.query<{ ttl: string }>(
    "SELECT extract(engine_full, 'TTL (.*) SETTINGS') AS ttl FROM system.tables WHERE database = 'traces'",
  );
  return row.ttl;
}

function statements(...args: string[]): string[] {
  const { stdout } = schema(['print', ...args], { CLICKHOUSE_URL: undefined });
  return stdout
    .split(';\n')
    .map((statement) => statement.trim())
    .filter(Boolean);
}

/** As an old collector left it, `comment` aside. */
function oldTable(comment: string): string {
  return statements()[1]
    .replace("COMMENT 'hive-otel-collector schema 3'", comment)
    .replace('non_replicated_deduplication_window = 10000', 'non_replicated_deduplication_window = 100')
    .replace(/,\n {2}INDEX idx_duration .*/, '')
    .replace('`SpanName` LowCardinality(String)', '`SpanName` String')
    .replace("`Timestamp` DateTime64(9, 'UTC')", '`Timestamp` DateTime64(9)')
    .replace(/ {2}`StatusMessage` .*\n/, '');
}

const LOCAL = ['otel_traces_local', 'otel_traces_normalized_local', 'otel_traces_trace_id_ts_local'];

test('print ends quietly when its reader has seen enough', () => {
  const { stdout, stderr } = spawnSync('sh', ['-c', '"$0" "$1" print --layout hive | head -n 1', process.execPath, program], {
    encoding: 'utf8',
  });
  expect({ stdout, stderr }).toEqual({ stdout: 'CREATE DATABASE IF NOT EXISTS `default`;\n', stderr: '' });
});

describe('apply', () => {
  test('is for each server of CLICKHOUSE_URL, and check says whose table differs', async () => {
    await using other = await startClickHouse({ systemLogs: false });
    const both = { CLICKHOUSE_URL: `${clickhouse.url},${other.url}` };
    expect(schema(['apply']).status).toBe(0);
    const { status, stdout } = schema(['check'], both);
    expect(stdout).toMatch(new RegExp(`^${clickhouse.url}\nThe schema is up to date.*\n${other.url}\nThe database traces does not exist`));
    expect(status).toBe(1);
    expect(schema(['apply'], both).status).toBe(0);
    expect(schema(['check'], both).status).toBe(0);
    expect(await other.query("SELECT name FROM system.tables WHERE database = 'traces'")).toEqual([{ name: 'otel_traces' }]);
  });

  test.each([
    { args: [], tables: ['otel_traces'] },
    { args: ['--layout', 'otelcol'], tables: ['otel_traces', 'otel_traces_trace_id_ts', 'otel_traces_trace_id_ts_mv'] },
    {
      args: ['--layout', 'hive'],
      tables: [
        'otel_traces',
        'otel_traces_normalized',
        'otel_traces_normalized_mv',
        'otel_traces_trace_id_ts',
        'otel_traces_trace_id_ts_mv',
      ],
    },
    {
      args: ['--layout', 'hive', '--distributed', 'one'],
      tables: [
        'otel_traces',
        'otel_traces_normalized',
        'otel_traces_normalized_mv',
        'otel_traces_trace_id_ts',
        'otel_traces_trace_id_ts_mv',
        ...LOCAL,
      ].toSorted(),
    },
  ])('creates the schema of $args, and has nothing to do the second time', async ({ args, tables }) => {
    expect(schema(['check', ...args])).toMatchObject({
      status: 1,
      stdout: expect.stringContaining('The database traces does not exist: apply would run'),
    });
    expect(schema(['apply', ...args]).status).toBe(0);
    expect(await names()).toEqual(tables);
    expect(schema(['apply', ...args])).toMatchObject({ status: 0, stdout: 'Nothing to do.\n' });
    expect(schema(['check', ...args])).toMatchObject({ status: 0, stdout: 'The schema is up to date (version 3).\n' });
  });

  test('brings the table of an earlier version up to date, and keeps what is in it', async () => {
    await clickhouse.command('CREATE DATABASE traces');
    await clickhouse.command(oldTable("COMMENT 'hive-otel-collector schema 2'"));
    await clickhouse.command("INSERT INTO traces.otel_traces (Timestamp, SpanName) VALUES (now64(9), 'kept')");
    const { status, stdout } = schema(['apply']);
    expect(stdout.trimEnd().split('\n')).toEqual([
      'otel_traces has no column StatusMessage: changed',
      'otel_traces has no index idx_duration: changed',
      'otel_traces has non_replicated_deduplication_window = 100, not 10000: changed',
      "otel_traces has no comment 'hive-otel-collector schema 3': changed",
    ]);
    expect(status).toBe(0);
    expect(schema(['apply']).stdout).toBe('Nothing to do.\n');
    expect(await clickhouse.query('SELECT SpanName, StatusMessage FROM traces.otel_traces')).toEqual([
      { SpanName: 'kept', StatusMessage: '' },
    ]);
  });

  test('leaves a table alone that it did not make, and shows what differs and what would change it', async () => {
    await clickhouse.command('CREATE DATABASE traces');
    await clickhouse.command(oldTable(''));
    const before = await created();
    const differences = [
      'otel_traces has no column StatusMessage: apply does not change it',
      '    To change it, run: ALTER TABLE `traces`.`otel_traces` ADD COLUMN IF NOT EXISTS `StatusMessage` String CODEC(ZSTD(1)) ' +
        'AFTER `StatusCode`',
      'otel_traces has no index idx_duration: apply does not change it',
      '    To change it, run: ALTER TABLE `traces`.`otel_traces` ADD INDEX IF NOT EXISTS idx_duration Duration TYPE minmax GRANULARITY 1',
      'otel_traces has non_replicated_deduplication_window = 100, not 10000: apply does not change it',
      '    To change it, run: ALTER TABLE `traces`.`otel_traces` MODIFY SETTING non_replicated_deduplication_window = 10000',
    ];
    for (const command of ['check', 'apply']) {
      const { status, stdout } = schema([command]);
      expect(stdout.trimEnd().split('\n')).toEqual(differences);
      expect(status).toBe(1);
      expect(await created()).toEqual(before);
    }
    for (const line of differences) await clickhouse.command(/To change it, run: (.*)/.exec(line)?.[1] ?? 'SELECT 1');
    expect(schema(['check'])).toMatchObject({ status: 0, stdout: 'The schema is up to date (version 3).\n' });
  });

  test('changes the TTL and the deduplication window of any table, if it is told to', async () => {
    await clickhouse.command('CREATE DATABASE traces');
    await clickhouse.command(
      statements()[1]
        .replace(/COMMENT .*/, '')
        .replace(', non_replicated_deduplication_window = 10000', ''),
    );
    const { status, stdout } = schema(['apply', '--ttl-days', '30', '--deduplication-window', '500']);
    expect(stdout).toBe(
      'otel_traces has the TTL toDate(Timestamp) + toIntervalDay(365), not toDate(Timestamp) + toIntervalDay(30): changed\n' +
        'otel_traces has non_replicated_deduplication_window unset, not 500: changed\n',
    );
    expect(status).toBe(0);
  });

  test('takes an index for the same whatever its name is', async () => {
    await clickhouse.command('CREATE DATABASE traces');
    await clickhouse.command(
      statements()[1].replace('INDEX idx_duration ', 'INDEX by_duration ').replace('INDEX idx_span_attr_key ', 'INDEX keys '),
    );
    expect(schema(['apply'])).toMatchObject({ status: 0, stdout: 'Nothing to do.\n' });
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
    expect(schema(['apply', '--layout', 'hive'])).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^otel_traces_trace_id_ts does not exist: created\n/),
    });
  });

  test('leaves a view alone whose query it never created, and shows both queries', async () => {
    schema(['apply', '--layout', 'otelcol']);
    await clickhouse.command(
      `ALTER TABLE traces.otel_traces_trace_id_ts_mv MODIFY QUERY
       SELECT TraceId, min(Timestamp) AS Start, min(Timestamp) AS End FROM traces.otel_traces GROUP BY TraceId`,
    );
    const before = await created();
    for (const command of ['check', 'apply']) {
      expect(schema([command, '--layout', 'otelcol'])).toMatchObject({
        status: 1,
        stdout:
          'otel_traces_trace_id_ts_mv has a different query: apply does not change it\n' +
          '    yours: SELECT TraceId, min(Timestamp) AS Start, min(Timestamp) AS End FROM traces.otel_traces GROUP BY TraceId\n' +
          '    ours:  SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM traces.otel_traces ' +
          "WHERE TraceId != '' GROUP BY TraceId\n",
      });
    }
    expect(await created()).toEqual(before);
  });

  test('creates no view over a table that something else made and that lacks one of its columns', async () => {
    schema(['apply', '--layout', 'hive']);
    await clickhouse.command('DROP VIEW traces.otel_traces_normalized_mv');
    await clickhouse.command("ALTER TABLE traces.otel_traces_normalized MODIFY COMMENT 'mine', DROP COLUMN graphql_operation_hash");
    const { status, stdout } = schema(['apply', '--layout', 'hive']);
    expect(stdout).toContain('It is not created while otel_traces_normalized, which it would fill, has no column graphql_operation_hash.');
    expect(status).toBe(1);
  });

  test("says what it can't change", async () => {
    await clickhouse.command('CREATE DATABASE traces');
    await clickhouse.command(
      statements()[1].replace('`Duration` UInt64', '`Duration` UInt32').replace('ORDER BY (ServiceName, SpanName', 'ORDER BY (SpanName'),
    );
    const { status, stdout } = schema(['apply']);
    expect(stdout).toBe(
      "otel_traces.Duration is UInt32, not UInt64: can't be changed in place\n" +
        'otel_traces is ordered by SpanName, toDateTime(Timestamp), not by ServiceName, SpanName, toDateTime(Timestamp): ' +
        "can't be changed in place\n",
    );
    expect(status).toBe(1);
    expect(schema(['check', '--replicated']).stdout).toContain('otel_traces has the engine MergeTree, not ReplicatedMergeTree');
  });

  test('leaves a schema of a newer collector alone', async () => {
    schema(['apply']);
    await clickhouse.command("ALTER TABLE traces.otel_traces MODIFY COMMENT 'hive-otel-collector schema 4', DROP INDEX idx_duration");
    expect(schema(['apply'])).toMatchObject({ status: 1, stderr: expect.stringContaining('from a newer collector') });
    expect(
      await clickhouse.query("SELECT name FROM system.data_skipping_indices WHERE database = 'traces' AND name = 'idx_duration'"),
    ).toEqual([]);
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
    expect(
      printed.filter((statement) =>
        statement.includes('replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800'),
      ),
    ).toHaveLength(3);
  });

  test('takes the layout of the rows', () => {
    expect(schema(['print'], { ROW_DIALECT: 'otelcol' }).stdout).toContain('otel_traces_trace_id_ts_mv');
  });
});

const posts = clientRequests[0];
const ROWS = 'SELECT * FROM traces.otel_traces_normalized ORDER BY trace_id';

function timeOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ');
}

/** What Hive lists of `posts`. */
function listed(): Record<string, unknown> {
  return {
    target_id: 'my target',
    trace_id: posts.traceId,
    span_id: posts.rootSpanId,
    timestamp: timeOf(firstSecond),
    duration: String(posts.durationNs),
    ...posts.listed,
  };
}

async function insert(request: OtlpRequest, settings: Record<string, string | number> = {}): Promise<void> {
  await insertBlock(clickhouse, blockOf(request, 'hive', 'my target'), 'traces.otel_traces', {
    distributed_foreground_insert: 1,
    ...settings,
  });
}

describe('the layout of Hive', () => {
  test.each([{ args: [] }, { args: ['--distributed', 'one'] }])(
    'lists GraphQL requests, and when each trace was, once over retries; with $args',
    async ({ args }) => {
      schema(['apply', '--layout', 'hive', ...args]);
      for (let copy = 0; copy < 2; copy++)
        await insert(posts.request, { insert_deduplication_token: 'one', deduplicate_blocks_in_dependent_materialized_views: 1 });
      expect(await clickhouse.query(ROWS)).toEqual([listed()]);
      expect(await clickhouse.query('SELECT TraceId, toUnixTimestamp(Start) AS start FROM traces.otel_traces_trace_id_ts')).toEqual([
        { TraceId: posts.traceId, start: firstSecond },
      ]);
      expect(await clickhouse.query('SELECT count() AS spans FROM traces.otel_traces')).toEqual([{ spans: '8' }]);
    },
  );

  test('takes the table of the layout spans as it is', async () => {
    schema(['apply']);
    expect(schema(['apply', '--layout', 'hive']).status).toBe(0);
    expect(await clickhouse.query("SELECT type FROM system.columns WHERE database = 'traces' AND name = 'SpanName'")).toEqual([
      { type: 'LowCardinality(String)' },
    ]);
  });
});

/** What schema version 2 created: the output of its `print`. */
async function createVersion2(file: string, rename = (sql: string) => sql): Promise<void> {
  const sql = rename(readFileSync(new URL(`../fixtures/${file}`, import.meta.url), 'utf8'));
  for (const statement of sql
    .split(';\n')
    .map((text) => text.trim())
    .filter(Boolean))
    await clickhouse.command(statement);
}

function backfill(...args: string[]): string[] {
  const { stdout, stderr } = schema(
    ['backfill', '--layout', 'hive', '--from', timeOf(firstSecond - 100), '--to', timeOf(firstSecond + 100), ...args],
    { CLICKHOUSE_URL: undefined },
  );
  expect(stderr).toBe('');
  return stdout
    .split(';\n')
    .map((statement) => statement.trim())
    .filter(Boolean);
}

describe('what version 2 made', () => {
  test.each([
    { file: 'schema-2-hive.sql', args: [], local: '' },
    { file: 'schema-2-distributed.sql', args: ['--distributed', 'one'], local: '_local' },
  ])("gets the columns and the query of Hive's view, and keeps its rows: $file", async ({ file, args, local }) => {
    await createVersion2(file);
    await insert(posts.request);
    const [before] = await clickhouse.query<object>(ROWS);
    const { status, stdout } = schema(['apply', '--layout', 'hive', ...args]);
    expect(stdout).toContain(`otel_traces_normalized${local} has no column graphql_operation_hash: changed`);
    expect(stdout).toContain('otel_traces_normalized_mv has the query of an earlier version: changed');
    expect(status).toBe(0);
    expect(schema(['check', '--layout', 'hive', ...args]).status).toBe(0);
    expect(await clickhouse.query(ROWS)).toEqual([{ ...before, graphql_operation_hash: '' }]);

    await insert(clientRequests[1].request);
    const [, pay] = await clickhouse.query<object>(ROWS);
    expect(pay).toMatchObject({ trace_id: clientRequests[1].traceId, ...clientRequests[1].listed });

    for (let run = 0; run < 2; run++) {
      for (const statement of backfill(...args)) await clickhouse.command(statement);
      expect(await clickhouse.query(ROWS)).toEqual([listed(), pay]);
    }
  });

  test('is known under other names as well', async () => {
    await createVersion2('schema-2-hive.sql', (sql) => sql.replaceAll('otel_traces', 'spans_2'));
    const { status, stdout } = schema(['apply', '--layout', 'hive'], { CLICKHOUSE_TABLE: 'spans_2' });
    expect(stdout).toContain('spans_2_normalized_mv has the query of an earlier version: changed');
    expect(status).toBe(0);
  });

  test("of Hive's own tables, is reverted: its view lists what Hive's view lists, and rows of the time between are redone", async () => {
    for (const statement of hiveStatements('traces')) await clickhouse.command(statement);
    await insert(posts.request);
    const view = readFileSync(new URL('../fixtures/schema-2-hive.sql', import.meta.url), 'utf8')
      .split('\nAS ')
      .at(-1)!
      .replace(';', '');
    await clickhouse.command(`ALTER TABLE traces.otel_traces_normalized_mv MODIFY QUERY ${view}`);
    await clickhouse.command("ALTER TABLE traces.otel_traces MODIFY COMMENT 'hive-otel-collector schema 2'");
    await insert(clientRequests[1].request);
    // A root that is no GraphQL request, which version 2 listed.
    await insert(clientRequests[3].request);
    expect(await clickhouse.query(ROWS)).toHaveLength(3);

    const before = (await created()).find(({ name }) => name === 'otel_traces_normalized');
    const { status, stdout } = schema(['apply', '--layout', 'hive']);
    expect(stdout).toBe(
      "otel_traces has no comment 'hive-otel-collector schema 3': changed\n" +
        'otel_traces_normalized_mv has the query of an earlier version: changed\n',
    );
    expect(status).toBe(0);
    expect(await created()).toContainEqual(before);

    for (const statement of backfill()) await clickhouse.command(statement);
    await insert(clientRequests[2].request);
    expect(await clickhouse.query(ROWS)).toEqual([
      listed(),
      expect.objectContaining(clientRequests[1].listed!),
      expect.objectContaining(clientRequests[2].listed!),
    ]);

    // As docs/schema.md says: then the table is Hive's again, and left alone.
    await clickhouse.command("ALTER TABLE traces.otel_traces MODIFY COMMENT '', DROP INDEX idx_duration");
    expect(schema(['apply', '--layout', 'hive'])).toMatchObject({
      status: 1,
      stdout: expect.stringContaining('otel_traces has no index idx_duration: apply does not change it'),
    });
  });
});

test('the tables of clickhouseexporter lack nothing but the deduplication windows, which apply sets if it is told to', async () => {
  const sql = readFileSync(new URL('../fixtures/clickhouseexporter-traces.sql', import.meta.url), 'utf8').replaceAll(
    '"default".',
    'traces.',
  );
  await clickhouse.command('CREATE DATABASE traces');
  for (const statement of sql.split(';').slice(0, -1)) await clickhouse.command(statement);
  const { status, stdout } = schema(['apply', '--layout', 'otelcol']);
  expect(stdout.split('\n').filter((line) => line.startsWith('otel_traces'))).toEqual([
    'otel_traces has non_replicated_deduplication_window unset, not 10000: apply does not change it',
    'otel_traces_trace_id_ts has non_replicated_deduplication_window unset, not 10000: apply does not change it',
  ]);
  expect(status).toBe(1);
  expect(schema(['apply', '--layout', 'otelcol', '--deduplication-window', '10000']).status).toBe(0);
  expect(schema(['check', '--layout', 'otelcol']).status).toBe(0);
});

describe("Hive's own database", () => {
  test("is left as it is, and the collector's view is shown next to Hive's", async () => {
    for (const statement of hiveStatements('traces')) await clickhouse.command(statement);
    const before = await created();
    const { status, stdout } = schema(['apply', '--layout', 'hive']);
    expect(stdout.split('\n')).toEqual([
      'otel_traces_normalized_mv has a different query: apply does not change it',
      expect.stringMatching(/^ {4}yours: SELECT .*JSONType/),
      expect.stringMatching(/^ {4}ours: {2}SELECT .*splitByChar/),
      '',
    ]);
    expect(status).toBe(1);
    expect(schema(['check', '--layout', 'hive'])).toMatchObject({ status: 1, stdout });
    expect(await created()).toEqual(before);

    const [, ours] = / ours: {2}(SELECT .*)/.exec(stdout)!;
    await clickhouse.command(`ALTER TABLE traces.otel_traces_normalized_mv MODIFY QUERY ${ours}`);
    expect(schema(['check', '--layout', 'hive']).status).toBe(0);
    await insert(clientRequests[6].request);
    expect(await clickhouse.query(ROWS)).toMatchObject([{ subgraph_names: ['posts', 'users'] }]);
  });

  test('fails no release: differences are allowed as long as the collector can insert', async () => {
    for (const statement of hiveStatements('traces')) await clickhouse.command(statement);
    const allowed = ['apply', '--layout', 'hive', '--allow-differences'];
    expect(schema(allowed)).toMatchObject({ status: 0, stdout: expect.stringContaining('The collector can insert') });
    await clickhouse.command('ALTER TABLE traces.otel_traces DROP COLUMN StatusMessage');
    expect(schema(allowed)).toMatchObject({
      status: 1,
      stdout: expect.stringContaining("The collector can't insert: The table traces.otel_traces has no column StatusMessage"),
    });
  });

  test('that shows times in another zone than UTC is a difference', async () => {
    await using elsewhere = await startClickHouse({ systemLogs: false, users: ABROAD });
    const env = { CLICKHOUSE_URL: elsewhere.url };
    expect(schema(['apply', '--layout', 'otelcol'], env).status).toBe(0);
    expect(schema(['check', '--layout', 'otelcol'], env).status).toBe(0);
    const { status, stdout } = schema(['apply', '--layout', 'hive'], env);
    expect(stdout).toContain(
      "otel_traces.Timestamp is DateTime64(9), shown as time in America/St_Johns, not DateTime64(9, 'UTC'): can't be changed in place\n",
    );
    expect(status).toBe(1);
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

  test('warns of a shard that does not deduplicate repeated inserts', async () => {
    schema(['apply', '--distributed', 'one']);
    await clickhouse.command('ALTER TABLE traces.otel_traces_local MODIFY SETTING non_replicated_deduplication_window = 0');
    const [warning, ...others] = await warnings();
    expect(warning).toMatch(/^The table traces\.otel_traces_local \(shard 1, .*\) does not deduplicate repeated inserts/);
    expect(warning).toContain(' ALTER TABLE `traces`.`otel_traces_local` MODIFY SETTING');
    expect(others).toEqual([]);
  });
});

describe("a command line that can't be followed", () => {
  test.each([
    [['destroy'], 'Unknown command: destroy'],
    [['apply', 'twice'], 'Unexpected argument: twice'],
    [['apply', '--layout', 'jaeger'], '--layout is jaeger. Allowed: spans, otelcol, hive.'],
    [['apply', '--ttl-days', 'never'], '--ttl-days is never. Allowed: a whole number from 0 to 36500.'],
    [['apply', '--replica-name', 'a'], 'need --replicated'],
    [['apply', '--replicated', '--replica-path', '/one/for/all'], 'as each table needs its own'],
    [['apply', '--on-cluster', "x'; DROP"], '--on-cluster is "x\'; DROP"'],
    [['apply', '--colour'], "Unknown option '--colour'"],
    [['backfill'], 'backfill needs --layout hive'],
    [['backfill', '--layout', 'hive', '--from', '2026-11-01 00:00:00'], "--to is not set. Allowed: a time in UTC, 'YYYY-MM-DD hh:mm:ss'."],
    [['backfill', '--layout', 'hive', '--from', 'yesterday'], '--from is yesterday. Allowed: a time in UTC'],
    [['backfill', '--layout', 'hive', '--from', '2026-13-01 00:00:00'], '--from is 2026-13-01 00:00:00. Allowed: a time in UTC'],
  ])('%j', (args, message) => {
    expect(schema(args)).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining(message) });
  });

  test('apply without CLICKHOUSE_URL', () => {
    expect(schema(['apply'], { CLICKHOUSE_URL: undefined })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('CLICKHOUSE_URL is not set'),
    });
  });

  test('a ClickHouse that is not there', () => {
    expect(schema(['check'], { CLICKHOUSE_URL: 'http://127.0.0.1:1' })).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('ECONNREFUSED'),
    });
  });

  test('--help explains it', () => {
    expect(schema(['--help'])).toMatchObject({ status: 0, stdout: expect.stringContaining('npm run schema -- apply') });
  });
});
