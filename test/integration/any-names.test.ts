import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { createClickHouseClient } from '../../src/storage/clickhouse.ts';
import { checkTable } from '../../src/storage/table-check.ts';
import { SPANS_PER_BLOCK, startRingBatching, stored, temporaryDir } from '../support/generators/ring-batching.ts';
import { type ClickHouseProxy, startProxy } from '../support/servers/clickhouse-proxy.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import type { Environment } from '../support/servers/collector.ts';
import { run } from '../support/servers/run.ts';

/* ClickHouse takes any name for a database and a table, if it is quoted: so does everything that the collector says to ClickHouse. */

const DATABASE = 'my-db.v1 `b "q" \'s\' \\ $& %41';
/** Some of it looks like a part of a statement, of an engine or of a shell command. */
const TABLE = "ü-spans TO a.b (`c`, 'd\\') $(exit 1)";
/** As ClickHouse's manual says a name in backticks is written; not by the code under test. */
const QUOTED_DATABASE = '`my-db.v1 \\`b "q" \'s\' \\\\ $& %41`';
const QUOTED_TABLE = "`ü-spans TO a.b (\\`c\\`, 'd\\\\') $(exit 1)`";
const QUOTED = `${QUOTED_DATABASE}.${QUOTED_TABLE}`;
const NAMES: Environment = { CLICKHOUSE_DATABASE: DATABASE, CLICKHOUSE_TABLE: TABLE };
const CLUSTER = '<remote_servers><one><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></one></remote_servers>';
const MINIMAL_GRANT = `GRANT INSERT, SELECT(Timestamp, TraceId, SpanId) ON ${QUOTED}`;
const PASSWORD = 'p"w\\d $x';
const USERS = `<users>
  <default><password/><networks><ip>127.0.0.1</ip></networks></default>
  <script><password>${PASSWORD}</password><networks><ip>127.0.0.1</ip></networks></script>
  <minimal><password/><networks><ip>127.0.0.1</ip></networks>
    <grants><query>${MINIMAL_GRANT.replaceAll('&', '&amp;')}</query></grants></minimal>
</users>`;

let clickhouse: TestClickHouse;
let proxy: ClickHouseProxy;
let ringDir = '';
let rings = 0;
const dir = temporaryDir();

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false, configuration: CLUSTER, users: USERS });
  proxy = await startProxy(clickhouse);
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
  dir.remove();
});
beforeEach(async () => {
  ringDir = join(dir.path, String(rings++));
  proxy.restore();
  await clickhouse.command(`DROP DATABASE IF EXISTS ${QUOTED_DATABASE} SYNC`);
});

const start = (env: Environment = {}) => startRingBatching(ringDir, [proxy.url], { ...NAMES, CLICKHOUSE_TIMEOUT_MS: '5000', ...env });
const rows = async () => stored([clickhouse], QUOTED);

const environment = () => ({ CLICKHOUSE_URL: clickhouse.url, ...NAMES });
const replayScript = (out: string) =>
  run(join(out, 'replay.sh'), [], { ...environment(), CLICKHOUSE_USERNAME: 'script', CLICKHOUSE_PASSWORD: PASSWORD });
const program = (name: 'schema' | 'ring' | 'dead-letters', ...args: string[]) =>
  run(process.execPath, [`src/cli/${name}.ts`, ...args], { ...environment(), DISK_BUFFER_DIR: ringDir });

test.each([[[]], [['--layout', 'otelcol']], [['--layout', 'hive']], [['--layout', 'hive', '--distributed', 'one']]])(
  'a schema of such names is applied, found to be as it should be, and printed (%j)',
  async (args) => {
    expect(await program('schema', 'apply', ...args)).toMatchObject({ stderr: '', status: 0 });
    expect(await program('schema', 'check', ...args)).toMatchObject({ stdout: expect.stringContaining('is up to date'), status: 0 });
    const { stdout } = await program('schema', 'print', ...args);
    const before = await clickhouse.query("SELECT name FROM system.tables WHERE database LIKE 'my-db%' ORDER BY name");
    await clickhouse.command(`DROP DATABASE ${QUOTED_DATABASE} SYNC`);
    for (const statement of stdout.split(';\n\n').filter(Boolean)) await clickhouse.command(statement);
    expect(await clickhouse.query("SELECT name FROM system.tables WHERE database LIKE 'my-db%' ORDER BY name")).toEqual(before);
    expect((await program('schema', 'check', ...args)).status).toBe(0);
  },
);

test.each([[['--layout', 'hive']], [['--layout', 'hive', '--distributed', 'one']]])(
  'the table and what its views write to are looked at, and a statement that is advised does what it says (%j)',
  async (args) => {
    await program('schema', 'apply', ...args);
    const client = createClickHouseClient(loadConfig({ CLICKHOUSE_URL: clickhouse.url, DISABLE_AUTH: 'true' }));
    const config = loadConfig({ CLICKHOUSE_URL: clickhouse.url, DISABLE_AUTH: 'true', ...NAMES });
    expect(await checkTable(client, config)).toEqual([]);
    const tables = await clickhouse.query<{ name: string }>(
      "SELECT name FROM system.tables WHERE database LIKE 'my-db%' AND engine = 'MergeTree'",
    );
    for (const { name } of tables)
      await clickhouse.command(
        `ALTER TABLE ${QUOTED_DATABASE}.\`${name.replace(/[\\`]/g, '\\$&')}\` MODIFY SETTING non_replicated_deduplication_window = 0`,
      );
    const warnings = await checkTable(client, config);
    expect(warnings).toHaveLength(3);
    for (const warning of warnings) await clickhouse.command(warning.split('Run: ')[1]);
    expect(await checkTable(client, config)).toEqual([]);
    await client.close();
  },
);

test('a grant that is missing for what a view reads is found, and named as ClickHouse takes it', async () => {
  await program('schema', 'apply', '--layout', 'hive');
  const config = loadConfig({ CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_USERNAME: 'minimal', DISABLE_AUTH: 'true', ...NAMES });
  const client = createClickHouseClient(config);
  const error = await checkTable(client, config).catch((thrown: Error) => thrown.message);
  await client.close();
  expect(error).toContain(`Run: GRANT SELECT(Duration, ParentSpanId, SpanAttributes) ON ${QUOTED} TO \`minimal\``);
  const [{ valid }] = await clickhouse.query<{ valid: number }>(
    `SELECT isNotNull(formatQueryOrNull($sql$${String(error).split('Run: ')[1]}$sql$)) AS valid`,
  );
  expect(valid).toBe(1);
});

test('a name that is too long for ClickHouse is refused in its words', async () => {
  const { status, stderr } = await run(process.execPath, ['src/cli/schema.ts', 'apply'], {
    ...environment(),
    CLICKHOUSE_TABLE: 'é'.repeat(60),
  });
  expect(status).toBe(1);
  expect(stderr).toMatch(/max length of table name for database .* is \d+, current length is 360/);
});

test('spans are stored, and rows that ClickHouse has lost are looked for and inserted again', async () => {
  await using batching = start();
  await batching.storage.availability.whenUp();
  await batching.push(1);
  await batching.drained();
  expect(await rows()).toEqual({ rows: SPANS_PER_BLOCK, spans: SPANS_PER_BLOCK });
  proxy.fail({ kind: 'cut answer' }, 'inserts');
  await batching.push(1);
  await expect.poll(() => rows()).toEqual({ rows: 2 * SPANS_PER_BLOCK, spans: 2 * SPANS_PER_BLOCK });
  await clickhouse.losePartsOf(TABLE.replace(/[\\']/g, '\\$&'), "name LIKE '%\\_2\\_2\\_%'");
  proxy.restore();
  await batching.drained();
  expect(await rows()).toEqual({ rows: 2 * SPANS_PER_BLOCK, spans: 2 * SPANS_PER_BLOCK });
  expect(batching.storage.stats.restoredRows).toBe(SPANS_PER_BLOCK);
});

test('dead letters are replayed, and exported with a script that stores them once', async () => {
  {
    await using batching = start();
    await batching.storage.availability.whenUp();
    await clickhouse.command(`ALTER TABLE ${QUOTED} ADD CONSTRAINT odd CHECK SpanAttributes['hive.target_id'] != 'target'`);
    // Each span is sent alone, twice.
    await batching.push(2, 2);
    await batching.drained();
    await clickhouse.command(`ALTER TABLE ${QUOTED} DROP CONSTRAINT odd`);
  }
  const out = join(ringDir, 'out');
  expect(await program('dead-letters', 'export', '--format', 'native', '--out', out)).toMatchObject({ status: 0 });
  expect(await replayScript(out)).toMatchObject({ stderr: '', status: 0 });
  expect(await program('dead-letters', 'replay')).toMatchObject({
    stderr: expect.stringMatching(/(\d) of \1 dead letters? stored/),
    status: 0,
  });
  expect(await rows()).toEqual({ rows: 4, spans: 4 });
});

test('what a disk buffer holds is exported with a script that stores it once', async () => {
  await program('schema', 'apply');
  {
    proxy.fail({ kind: 'cut request' }, 'all');
    await using batching = start();
    await batching.push(2);
  }
  const out = join(ringDir, 'out');
  expect(await program('ring', 'export', ringDir, '--format', 'native', '--out', out)).toMatchObject({ status: 0 });
  for (let i = 0; i < 2; i++) {
    expect(await replayScript(out)).toMatchObject({ stderr: '', status: 0 });
    expect(await rows()).toEqual({ rows: 2 * SPANS_PER_BLOCK, spans: 2 * SPANS_PER_BLOCK });
  }
});
