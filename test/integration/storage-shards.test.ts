import { zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { createStatements, defaultOptions } from '../../src/schema/schema.ts';
import { createClickHouseClient } from '../../src/storage/clickhouse.ts';
import { checkTable } from '../../src/storage/table-check.ts';
import { newBlock, SPANS_PER_BLOCK, startRingBatching, stored, temporaryDir, untilStored } from '../support/generators/ring-batching.ts';
import { type ClickHouseProxy, startProxy } from '../support/servers/clickhouse-proxy.ts';
import type { TestClickHouse } from '../support/servers/clickhouse.ts';
import { CLUSTER_NAME, startCluster, type TestCluster } from '../support/servers/cluster.ts';
import { runProgram, until } from '../support/servers/collector.ts';

/* A Distributed table over two servers: what is acknowledged is stored on one of them, and once. */

/** May do all that inserting takes, and nothing that asks other servers. */
const USERS = `<users><inserter><password/><networks><ip>127.0.0.1</ip></networks>
  <grants><query>GRANT SELECT, INSERT ON default.*</query><query>GRANT SELECT ON system.*</query></grants></inserter></users>`;

let cluster: TestCluster;
let first: TestClickHouse;
let second: TestClickHouse;
let proxy: ClickHouseProxy;
let rings = 0;
const dir = temporaryDir();

beforeAll(async () => {
  cluster = await startCluster({ users: USERS });
  [first, second] = cluster.servers;
  proxy = await startProxy(first);
});
afterAll(async () => {
  for (const one of [proxy, cluster]) await one[Symbol.asyncDispose]();
  dir.remove();
});
beforeEach(async () => {
  for (const server of cluster.servers) {
    for (const table of ['otel_traces', 'otel_traces_local']) await server.command(`DROP TABLE IF EXISTS ${table} SYNC`);
    for (const statement of createStatements({ ...defaultOptions, database: 'default', table: 'otel_traces', distributed: CLUSTER_NAME }))
      await server.command(statement);
  }
});

const start = () =>
  startRingBatching(`${dir.path}/${rings++}`, [proxy.url], { CLICKHOUSE_CREATE_SCHEMA: 'false', CLICKHOUSE_TIMEOUT_MS: '6000' });

const onBothServers = (sql: string) => Promise.all(cluster.servers.map((server) => server.command(sql)));
const shardBy = (key: string) =>
  onBothServers(
    `CREATE OR REPLACE TABLE otel_traces AS otel_traces_local
     ENGINE = Distributed('${CLUSTER_NAME}', 'default', 'otel_traces_local'${key === '' ? '' : `, ${key}`})`,
  );

interface Trouble {
  readonly begin: () => Promise<void> | void;
  readonly end: () => Promise<void> | void;
}

/** Of the server that has a part of each insert while another one takes the inserts, unless it says so. */
const troubles: readonly (readonly [string, Trouble])[] = [
  ['is killed', { begin: () => second.kill(), end: () => second.restart() }],
  ['hangs', { begin: () => second.pause(), end: () => second.resume() }],
  [
    'lacks its table',
    {
      begin: () => second.command('RENAME TABLE otel_traces_local TO away'),
      end: () => second.command('RENAME TABLE away TO otel_traces_local'),
    },
  ],
  [
    'takes the inserts, and lacks its own table',
    {
      begin: () => first.command('RENAME TABLE otel_traces_local TO away'),
      end: () => first.command('RENAME TABLE away TO otel_traces_local'),
    },
  ],
  [
    'has too many parts',
    {
      begin: () => second.command('ALTER TABLE otel_traces_local MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1'),
      end: () => second.command('ALTER TABLE otel_traces_local RESET SETTING parts_to_delay_insert, parts_to_throw_insert'),
    },
  ],
  [
    'has a view that fails',
    {
      begin: async () => {
        await second.command('CREATE TABLE IF NOT EXISTS target (n UInt64) ENGINE = MergeTree ORDER BY n');
        await second.command('CREATE MATERIALIZED VIEW failing TO target AS SELECT toUInt64(SpanName) AS n FROM otel_traces_local');
      },
      end: () => second.command('DROP VIEW failing'),
    },
  ],
];

describe.each(['cityHash64(TraceId)', 'rand()', ''])('with the key "%s", acknowledged spans are stored once after a shard', (key) => {
  test.each(troubles)('%s', async (_, { begin, end }) => {
    await shardBy(key);
    await using batching = start();
    await batching.storage.availability.whenUp();
    await batching.push(5);
    await batching.drained();

    await begin();
    try {
      // Several inserts, as a key by chance leaves one of them to a shard.
      for (let failures = 0; failures === 0; failures = batching.storage.stats.failedInserts) {
        await batching.push(5);
        await until(() => batching.workers.busy === 0 || batching.storage.stats.failedInserts > 0, 'it is inserted or fails');
      }
    } finally {
      await end();
    }
    await batching.push(5);
    await batching.drained();

    const spans = batching.pushed * SPANS_PER_BLOCK;
    expect(await stored([first])).toEqual({ rows: spans, spans });
    expect(await stored([first, second], 'otel_traces_local')).toEqual({ rows: spans, spans });
    expect(batching.workers.stats.refusedRows).toBe(0);
  });
});

test('an insert whose answer got lost is stored once, whatever the key', async () => {
  for (const key of ['cityHash64(TraceId)', 'rand()']) {
    await shardBy(key);
    await using batching = start();
    await batching.storage.availability.whenUp();
    proxy.fail({ kind: 'cut answer' });
    await batching.push(10);
    await until(() => batching.storage.stats.failedInserts > 0, 'its answer is lost');
    proxy.restore();
    await batching.drained();
  }
  expect(await stored([first])).toEqual({ rows: 20 * SPANS_PER_BLOCK, spans: 20 * SPANS_PER_BLOCK });
});

test.each(['cityHash64(TraceId)', 'rand()'])(
  'with the key %s, what a killed shard has lost and takes for stored is inserted again',
  async (key) => {
    await shardBy(key);
    await using batching = start();
    await batching.storage.availability.whenUp();
    proxy.fail({ kind: 'cut answer' });
    await batching.push(20);
    await untilStored([first], 20 * SPANS_PER_BLOCK);
    proxy.fail({ kind: 'cut answer' }, 'all');

    // A key by chance leaves the whole insert to one shard.
    const rows = await Promise.all([second, first].map(async (server) => (await stored([server], 'otel_traces_local')).rows));
    await (rows[0] > 0 ? second : first).losePartsOf('otel_traces_local');
    proxy.restore();
    await batching.drained();
    expect(await stored([first, second], 'otel_traces_local')).toEqual({ rows: 20 * SPANS_PER_BLOCK, spans: 20 * SPANS_PER_BLOCK });
    expect(batching.storage.stats.restoredRows).toBe(rows[0] || rows[1]);
  },
);

/** The last of many: all others are on their way to the shards when it is read. */
test.each(['cityHash64(TraceId)', 'rand()'])('with the key %s, a block that is unreadable costs no other one', async (key) => {
  await shardBy(key);
  await using batching = start();
  await batching.storage.availability.whenUp();
  const unreadable = { ...newBlock(), frame: zstdCompressSync(Buffer.alloc(300, 7)) };
  const blocks = [...Array.from({ length: 40 }, () => newBlock(500)), unreadable];
  await batching.pushTogether(blocks);
  await until(() => batching.deadLetters.count === 1, 'it is a dead letter');
  await batching.drained();
  expect(await stored([first])).toEqual({ rows: 20_000, spans: 20_000 });
});

async function warnings(env: Record<string, string> = {}): Promise<string[]> {
  const config = loadConfig({ CLICKHOUSE_URL: first.url, DISABLE_AUTH: 'true', ...env });
  const client = createClickHouseClient(config);
  try {
    return await checkTable(client, config);
  } finally {
    await client.close();
  }
}

describe('the check of the tables behind it', () => {
  test('finds nothing wrong with ours, nor when a shard does not answer', async () => {
    expect(await warnings()).toEqual([]);
    second.pause();
    try {
      expect(await warnings()).toEqual([]);
    } finally {
      second.resume();
    }
  });

  test('names a column that differs on another server', async () => {
    await second.command('ALTER TABLE otel_traces_local DROP COLUMN StatusMessage');
    await expect(warnings()).rejects.toThrow(/The table default\.otel_traces_local \(shard 2, .*:\d+\) has no column StatusMessage/);
    await second.command('ALTER TABLE otel_traces_local ADD COLUMN StatusMessage String, MODIFY COLUMN Duration Float64');
    expect(await warnings()).toEqual([
      expect.stringMatching(/^The table default\.otel_traces_local \(shard 2, .*\) has Duration as Float64/),
    ]);
  });

  test('names another server that does not deduplicate repeated inserts', async () => {
    await second.command('ALTER TABLE otel_traces_local MODIFY SETTING non_replicated_deduplication_window = 0');
    expect(await warnings()).toEqual([
      expect.stringMatching(/^The table default\.otel_traces_local \(shard 2, .*\) does not deduplicate repeated inserts/),
    ]);
  });

  test('says which grant it lacks, and looks at the server itself', async () => {
    await first.command('ALTER TABLE otel_traces_local MODIFY SETTING non_replicated_deduplication_window = 0');
    expect(await warnings({ CLICKHOUSE_USERNAME: 'inserter' })).toEqual([
      expect.stringMatching(/^The table default\.otel_traces_local does not deduplicate repeated inserts/),
      expect.stringMatching(/^The tables default\.otel_traces_local on the shards of shards are not checked: .*grant .*REMOTE/),
    ]);
  });
});

/** What the command prints. */
async function check(user: string): Promise<string> {
  const { output } = await runProgram(
    ['check', '--distributed', CLUSTER_NAME],
    { CLICKHOUSE_URL: first.url, CLICKHOUSE_USERNAME: user },
    'cli/schema',
  );
  return output;
}

describe('schema check', () => {
  test('names what differs on another server', async () => {
    expect(await check('default')).toBe('The schema is up to date (version 3).\n');
    await second.command('ALTER TABLE otel_traces_local DROP COLUMN StatusMessage, MODIFY COLUMN Duration Float64');
    expect((await check('default')).split('\n')).toEqual([
      expect.stringMatching(/^otel_traces_local \(shard 2, .*:\d+\)\.Duration is Float64, not UInt64: /),
      expect.stringMatching(/^otel_traces_local \(shard 2, .*\) has no column StatusMessage: apply would run$/),
      expect.stringMatching(/^ {4}ALTER TABLE /),
      '',
    ]);
  });

  test('says that it may not ask them', async () => {
    expect(await check('inserter')).toMatch(/^The other servers of shards are not compared: .*REMOTE.*\nThe schema is up to date/);
  });
});
