import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor, type ReadableSpan } from '@opentelemetry/sdk-trace-base';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createStatements, defaultOptions, type SchemaOptions } from '../../src/schema/schema.ts';
import { denialOf, grantStatements } from '../../src/storage/grants.ts';
import { JSON_TYPE, send } from '../support/clients/otlp-client.ts';
import { startApp, type TestApp } from '../support/servers/app.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { CLUSTER_NAME, startCluster, type TestCluster } from '../support/servers/cluster.ts';
import { until, type Environment } from '../support/servers/collector.ts';

/*
 * A user that has the grants of docs/storage.md and no others can insert. If a user lacks one, the collector says which,
 * and nothing is stored before it is there.
 */

const DOC = readFileSync(fileURLToPath(new URL('../../docs/storage.md', import.meta.url)), 'utf8');
const SECTION = /\n## Grants\n([\s\S]*?)\n## /.exec(DOC)![1];
/** The statements of each block of the section, in its order. */
const [SPANS, WITH_VIEWS, DISTRIBUTED, CREATE] = Array.from(SECTION.matchAll(/```sql\n([\s\S]*?)```/g), ([, block]) =>
  block
    .trim()
    .split('\n')
    .map((line) => {
      const [, grant] = /^(GRANT .+) TO collector;$/.exec(line) ?? [];
      if (grant === undefined) throw new Error(`docs/storage.md has no grant to collector in: ${line}`);
      return grant;
    }),
);
const MINIMAL = ['GRANT INSERT, SELECT(Timestamp, TraceId, SpanId) ON default.otel_traces'];

/** The embedded server reads its users once: a user that gets a grant is another user, whose name stands in the same file then. */
const USERS: Readonly<Record<string, readonly string[]>> = {
  spans: SPANS,
  views: WITH_VIEWS,
  distributed: DISTRIBUTED,
  creator: [...SPANS, ...CREATE],
  minimal: MINIMAL,
  selects: ['GRANT SELECT ON default.otel_traces'],
  sees: [...MINIMAL, 'GRANT SHOW TABLES ON default.*'],
  chain: [...WITH_VIEWS, 'GRANT SHOW TABLES ON default.*'],
  chained: [...WITH_VIEWS, 'GRANT SHOW TABLES ON default.*', 'GRANT SELECT ON default.otel_traces_trace_id_ts'],
  outside: ['GRANT INSERT, SELECT ON default.otel_traces', 'GRANT SELECT ON system.clusters'],
};
/** Reads a column that the look-up's own view does not read. */
const OTHER_QUERY =
  'SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM otel_traces WHERE empty(ParentSpanId) GROUP BY TraceId';
const users = `<users>${Object.entries(USERS)
  .map(([name, grants]) => {
    const queries = grants.map((grant) => `<query>${grant}</query>`).join('');
    return `<${name}><password/><networks><ip>127.0.0.1</ip></networks><grants>${queries}</grants></${name}>`;
  })
  .join('')}</users>`;

const TABLES = [
  'failing',
  'chain_mv',
  'other_mv',
  'chain_target',
  'otel_traces_trace_id_ts_mv',
  'otel_traces_normalized_mv',
  'otel_traces_trace_id_ts',
  'otel_traces_normalized',
  'otel_traces',
];

let clickhouse: TestClickHouse;
let dir: string;
let app: TestApp | undefined;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false, users });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'grants-'));
  for (const table of TABLES) await clickhouse.command(`DROP TABLE IF EXISTS ${table} SYNC`);
});
afterEach(async () => {
  await app?.[Symbol.asyncDispose]();
  app = undefined;
  rmSync(dir, { recursive: true });
});

async function create(layout: SchemaOptions['layout'], security = ''): Promise<void> {
  for (const statement of createStatements({ ...defaultOptions, database: 'default', table: 'otel_traces', layout })) {
    await clickhouse.command(
      statement.startsWith('CREATE MATERIALIZED') ? statement.replace('\nAS SELECT', ` ${security}\nAS SELECT`) : statement,
    );
  }
}

function become(user: string): void {
  writeFileSync(join(dir, 'user'), user);
}

async function start(user: string, env: Environment = {}, url = clickhouse.url): Promise<TestApp> {
  become(user);
  app = await startApp({ CLICKHOUSE_URL: url, CLICKHOUSE_USERNAME_FILE: join(dir, 'user'), DISABLE_AUTH: 'true', ...env });
  return app;
}

const disk = (): Environment => ({
  ENABLE_DISK_BUFFER: 'true',
  DISK_BUFFER_DIR: join(dir, 'buffer'),
  DISK_BUFFER_MAX_SIZE_MB: '8',
  BATCH_TIMEOUT_MS: '50',
});

const get = (path: string) => send(`${app!.urls.admin}/${path}`, '', { method: 'GET' });
const ready = () => until(async () => (await get('ready')).status === 200, 'the collector is ready');

/** Waits until it says why it is not available. */
async function reason(what: string): Promise<string> {
  let said = '';
  await until(async () => {
    const { info, error, details } = JSON.parse((await get('health')).body.toString()) as Record<
      string,
      Record<string, { clickhouse?: { reason?: string } }>
    >;
    said = JSON.stringify(
      [info, error, details].flatMap((part) => Object.values(part ?? {})).map(({ clickhouse: state }) => state?.reason ?? ''),
    );
    return said.includes(what);
  }, `${what} in the reason`);
  return said;
}

/** Rows of each table. */
async function counts(tables: readonly string[]): Promise<number[]> {
  const found = await Promise.all(tables.map((table) => clickhouse.query<{ rows: string }>(`SELECT count() AS rows FROM ${table}`)));
  return found.map(([{ rows }]) => Number(rows));
}
const ALL = ['otel_traces', 'otel_traces_trace_id_ts', 'otel_traces_normalized'];

function request(days = 1): string {
  const spans = Array.from({ length: days }, (_, day) => {
    const begin = BigInt(Date.now() - day * 86_400_000) * 1_000_000n;
    const attributes = [{ key: 'hive.graphql', value: { stringValue: 'true' } }];
    return {
      traceId: randomBytes(16).toString('hex'),
      spanId: randomBytes(8).toString('hex'),
      name: 'query',
      startTimeUnixNano: String(begin),
      endTimeUnixNano: String(begin + 1_000n),
      attributes,
    };
  });
  return JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans }] }] });
}

const post = async (body = request()) =>
  (await send(`${app!.urls.otlp}/v1/traces`, body, { headers: { ...JSON_TYPE, 'x-hive-target-ref': 'grants' } })).status;

/** Ended spans of the SDK, one of them a request's root. */
function sdkSpans(count: number): ReadableSpan[] {
  const memory = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(memory)] });
  for (let i = 0; i < count; i++)
    provider
      .getTracer('grants')
      .startSpan('query', { root: true, attributes: { 'hive.graphql': 'true' } })
      .end();
  return memory.getFinishedSpans();
}

type ExportResult = Parameters<Parameters<OTLPTraceExporter['export']>[1]>[0];

/** ExportResultCode.SUCCESS. */
const STORED: ExportResult = { code: 0 };

/** With the exporter at its defaults, which sends again what is refused. */
function exported(spans: ReadableSpan[]): Promise<ExportResult> {
  const exporter = new OTLPTraceExporter({ url: `${app!.urls.otlp}/v1/traces`, headers: { 'x-hive-target-ref': 'grants' } });
  return new Promise((resolve) => exporter.export(spans, resolve));
}

describe('the documented grants are enough', () => {
  test.each([
    ['spans', 'spans', ['otel_traces']],
    ['otelcol', 'views', ['otel_traces', 'otel_traces_trace_id_ts']],
    ['hive', 'views', ALL],
  ] as const)('for the layout %s, in memory and with the disk buffer', async (layout, user, tables) => {
    await create(layout);
    for (const [round, env] of [{}, disk()].entries()) {
      await using _ = await start(user, { CLICKHOUSE_CREATE_SCHEMA: 'true', ...env });
      await ready();
      expect(await exported(sdkSpans(5))).toEqual(STORED);
      await expect.poll(() => counts(tables), { timeout: 60_000 }).toEqual(tables.map(() => 5 * (round + 1)));
      app = undefined;
    }
  });

  test('to create the database and the table', async () => {
    await start('creator', { CLICKHOUSE_CREATE_SCHEMA: 'true' });
    await ready();
    expect(await post()).toBe(200);
    expect(await counts(['otel_traces'])).toEqual([1]);
  });
});

describe('where grants are missing for what the views read', () => {
  const GRANT = 'GRANT SELECT(';

  test.each([
    ['that the user may not see', 'minimal'],
    ['that the user may see', 'sees'],
  ])('%s, nothing is stored before they are given, and each span once, in memory with a real exporter', async (_, user) => {
    await create('hive');
    await start(user);
    const said = await reason(GRANT);
    expect(said).toContain(`TO \`${user}\``);
    expect(said).toContain('otel_traces_normalized_mv');
    expect((await get('ready')).status).toBe(503);

    const export_ = exported(sdkSpans(5));
    expect(await post()).toBe(503);
    expect(await counts(ALL)).toEqual([0, 0, 0]);
    become('views');
    expect(await export_).toEqual(STORED);
    expect((await counts(ALL)).slice(0, 2)).toEqual([5, 5]);
  });

  test('with the disk buffer, each span is stored once when they are given', async () => {
    await create('hive');
    await start('minimal', disk());
    await reason(GRANT);
    expect(await exported(sdkSpans(5))).toEqual(STORED);
    expect(await counts(ALL)).toEqual([0, 0, 0]);
    become('views');
    await expect.poll(async () => (await counts(ALL)).slice(0, 2), { timeout: 60_000 }).toEqual([5, 5]);
  });

  test('the GRANT that is named is the one that is missing, to the letter', async () => {
    await create('otelcol');
    await clickhouse.command('DROP TABLE otel_traces_trace_id_ts_mv SYNC');
    await clickhouse.command(`CREATE MATERIALIZED VIEW other_mv TO otel_traces_trace_id_ts AS ${OTHER_QUERY}`);
    await start('sees');
    expect(await reason(GRANT)).toContain('Run: GRANT SELECT(ParentSpanId) ON default.otel_traces TO `sees`');
  });

  test('a view that the user may not see, and nobody knows, is found at the first insert, and inserts are paused then', async () => {
    await create('otelcol');
    await clickhouse.command('DROP TABLE otel_traces_trace_id_ts_mv SYNC');
    await clickhouse.command(`CREATE MATERIALIZED VIEW other_mv TO otel_traces_trace_id_ts AS ${OTHER_QUERY}`);
    await start('minimal', { ACK_TIMEOUT_MS: '3000' });
    await ready();
    expect(await post()).toBe(503);
    expect(await reason('Run: ')).toContain('Run: GRANT SELECT(ParentSpanId) ON default.otel_traces TO `minimal`');
    expect(await post()).toBe(503);
    // The rows of the first one only, which ClickHouse had written by then.
    expect(await counts(['otel_traces', 'otel_traces_trace_id_ts'])).toEqual([1, 0]);
    become('views');
    await ready();
    expect(await post()).toBe(200);
    expect(await counts(['otel_traces', 'otel_traces_trace_id_ts'])).toEqual([2, 1]);
  });

  test('a view on the table that another view writes to is one of them', async () => {
    await create('otelcol');
    await clickhouse.command('CREATE TABLE chain_target (TraceId String) ENGINE = MergeTree ORDER BY TraceId');
    await clickhouse.command('CREATE MATERIALIZED VIEW chain_mv TO chain_target AS SELECT TraceId FROM otel_traces_trace_id_ts');
    await start('chain');
    expect(await reason('GRANT SELECT')).toContain('chain_mv');
    expect(await counts(['otel_traces'])).toEqual([0]);
    become('chained');
    await ready();
    expect(await post()).toBe(200);
    expect(await counts(['otel_traces', 'otel_traces_trace_id_ts', 'chain_target'])).toEqual([1, 1, 1]);
  });
});

describe('a view with SQL SECURITY of its own', () => {
  test('takes no grants of the user', async () => {
    await create('hive', 'DEFINER = default SQL SECURITY DEFINER');
    await start('sees');
    await ready();
    expect(await post()).toBe(200);
    expect((await counts(ALL)).slice(0, 2)).toEqual([1, 1]);
  });

  test('takes none, either, if it is not shown to the user and nobody knows it', async () => {
    await create('otelcol');
    await clickhouse.command('DROP TABLE otel_traces_trace_id_ts_mv SYNC');
    await clickhouse.command(
      `CREATE MATERIALIZED VIEW other_mv TO otel_traces_trace_id_ts DEFINER = default SQL SECURITY DEFINER AS ${OTHER_QUERY}`,
    );
    await start('minimal');
    await ready();
    expect(await post()).toBe(200);
    expect(await counts(['otel_traces', 'otel_traces_trace_id_ts'])).toEqual([1, 1]);
  });

  test('whose definer may not insert into its target is found before anything is inserted', async () => {
    await create('otelcol', 'DEFINER = selects SQL SECURITY DEFINER');
    await start('sees');
    expect(await reason('GRANT INSERT')).toContain('GRANT INSERT ON default.otel_traces_trace_id_ts TO `selects`');
    expect(await counts(['otel_traces'])).toEqual([0]);
  });
});

test('a user that may not insert at all is told which grant that takes', async () => {
  await create('spans');
  await start('selects');
  expect(await reason('GRANT INSERT')).toContain('ON default.otel_traces TO `selects`');
});

describe('CLICKHOUSE_CREATE_SCHEMA=true', () => {
  test("names what a user can't create, and what to do", async () => {
    await start('spans', { CLICKHOUSE_CREATE_SCHEMA: 'true', CLICKHOUSE_DATABASE: 'elsewhere' });
    expect(await reason('does not exist')).toContain(
      'The database elsewhere does not exist, or spans may not see it, and may not create it either. ' +
        'Create it (npm run schema -- apply), or run: GRANT CREATE DATABASE ON elsewhere.* TO `spans`',
    );
  });

  test('creates the table in a database that is there', async () => {
    await start('spans', { CLICKHOUSE_CREATE_SCHEMA: 'true' });
    expect(await reason('does not exist')).toContain('The table default.otel_traces does not exist');
    become('creator');
    await ready();
    expect(await post()).toBe(200);
  });
});

/** Of a metric, all its series together. */
async function value(name: string): Promise<number> {
  const lines = (await get('metrics')).body
    .toString()
    .split('\n')
    .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

describe('a view that fails after rows are in the table', () => {
  test('has them counted as overdue when their senders are refused', async () => {
    await create('spans');
    await clickhouse.command('CREATE TABLE chain_target (n UInt64) ENGINE = MergeTree ORDER BY n');
    await clickhouse.command('CREATE MATERIALIZED VIEW failing TO chain_target AS SELECT toUInt64(SpanName) AS n FROM otel_traces');
    await start('default', { ACK_TIMEOUT_MS: '1000' });
    await ready();
    expect(await post(request(3))).toBe(503);
    await clickhouse.command('DROP TABLE failing SYNC');
    await expect.poll(() => value('hive_collector_inserts_under_way'), { timeout: 60_000 }).toBe(0);

    const [stored] = await counts(['otel_traces']);
    expect(stored).toBe(3);
    expect(await value('hive_collector_overdue_spans_total')).toBe(stored);
    expect(await value('otelcol_exporter_sent_spans_total')).toBe(stored);
    expect(await value('otelcol_receiver_accepted_spans_total')).toBe(0);
  });
});

describe('behind a Distributed table', () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await startCluster({ users });
    for (const server of cluster.servers) {
      for (const statement of createStatements({
        ...defaultOptions,
        database: 'default',
        table: 'otel_traces',
        layout: 'hive',
        distributed: CLUSTER_NAME,
      }))
        await server.command(statement);
    }
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  test("the server's own table takes grants of the user as well; those that are documented are enough", async () => {
    await start('outside', {}, cluster.servers[0].url);
    expect(await reason('GRANT INSERT')).toContain('ON default.otel_traces_local TO `outside`');
    become('distributed');
    await ready();
    expect(await exported(sdkSpans(20))).toEqual(STORED);
    const rows = await Promise.all(
      ['otel_traces_local', 'otel_traces_trace_id_ts_local'].map(async (table) => {
        const all = await Promise.all(
          cluster.servers.map((server) => server.query<{ rows: string }>(`SELECT count() AS rows FROM ${table}`)),
        );
        return all.reduce((sum, [{ rows: count }]) => sum + Number(count), 0);
      }),
    );
    expect(rows).toEqual([20, 20]);
  });
});

describe("ClickHouse's words for a grant that is missing", () => {
  const begin = "u: Not enough privileges. To execute this query, it's necessary to have the grant ";

  test.each([
    [`${begin}INSERT ON default.otel_traces. `, 'GRANT INSERT ON default.otel_traces TO `u`'],
    [
      `Code: 497. DB::Exception: ${begin}SELECT(a, b) ON default.t. (Missing permissions: SELECT(b) ON default.t): ` +
        'while pushing to view default.v. (ACCESS_DENIED) (version 26.7.2.1)',
      'GRANT SELECT(b) ON default.t TO `u`',
    ],
    [
      `${begin}SELECT(a) ON default.otel_traces_local: while pushing to view default.v: Insertion status:\nWrote 1 blocks`,
      'GRANT SELECT(a) ON default.otel_traces_local TO `u`',
    ],
    [`${begin}SELECT(\`Events.Name\`, c) ON \`my-db\`.\`my.t\`. `, 'GRANT SELECT(`Events.Name`, c) ON `my-db`.`my.t` TO `u`'],
    [
      `${begin}SELECT(a) ON \`a\\\`b\`.\`t) ON x\`. ` +
        '(Missing permissions: SELECT(a) ON `a\\`b`.`t) ON x`, SELECT(b, a) ON `a\\`b`.`t) ON x`). ',
      'GRANT SELECT(a, b) ON `a\\`b`.`t) ON x` TO `u`',
    ],
    [`${begin}CREATE DATABASE ON d.*. `, 'GRANT CREATE DATABASE ON d.* TO `u`'],
    [
      `${begin}A ON x. (Missing permissions: SELECT(a, b) ON x.y, INSERT ON x.z). `,
      'GRANT INSERT ON x.z TO `u`; GRANT SELECT(a, b) ON x.y TO `u`',
    ],
  ])('%s', (message, statements) => {
    const denial = denialOf(message)!;
    expect(grantStatements([denial, denial])).toBe(statements);
  });

  test('are not read into other texts', () => {
    expect(denialOf('Code: 60. DB::Exception: Table default.t does not exist. (UNKNOWN_TABLE)')).toBeUndefined();
  });
});
