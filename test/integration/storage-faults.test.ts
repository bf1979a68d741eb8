import { beforeEach, describe, expect, test } from 'vitest';
import { createStatements } from '../../src/storage/table.ts';
import { SPANS_PER_BLOCK, startRingBatching, stored } from '../support/generators/ring-batching.ts';
import type { ClickHouseProxy, Fault } from '../support/servers/clickhouse-proxy.ts';
import type { TestClickHouse } from '../support/servers/clickhouse.ts';
import { until } from '../support/servers/collector.ts';
import { proxiedClickHouse } from '../support/servers/proxied-clickhouse.ts';

/* What is acknowledged is stored, and once, whatever ClickHouse or the way to it does in between, once that is fixed. */

/** Who may not insert, and who has inserted enough. */
const USERS = `
  <quotas><used_up><interval><duration>3600</duration><written_bytes>1</written_bytes></interval></used_up></quotas>
  <users>
    <reader><password/><networks><ip>127.0.0.1</ip></networks><grants><query>GRANT SELECT ON *.*</query></grants></reader>
    <metered><password/><networks><ip>127.0.0.1</ip></networks><quota>used_up</quota></metered>
  </users>`;

let clickhouse: TestClickHouse;
let proxy: ClickHouseProxy;
let table = '';
let tables = 0;
const server = proxiedClickHouse(USERS);
const { dir } = server;

beforeEach(async () => {
  ({ clickhouse, proxy } = server);
  table = `spans_${tables++}`;
  await clickhouse.command(createStatements('default', table)[1]);
});

/** Never creates the table: where it was moved away, that would be in the way of its return. */
const start = () =>
  startRingBatching(`${dir.path}/${table}`, [proxy.url], {
    CLICKHOUSE_TABLE: table,
    CLICKHOUSE_CREATE_SCHEMA: 'false',
    CLICKHOUSE_TIMEOUT_MS: '3000',
  });

interface Trouble {
  readonly begin: () => Promise<void> | void;
  readonly end: () => Promise<void> | void;
  /** What the operator reads of it. */
  readonly reason: RegExp;
}

function onTheWay(fault: Fault, requests: 'inserts' | 'all', reason: RegExp): Trouble {
  return { begin: () => proxy.fail(fault, requests), end: () => proxy.restore(), reason };
}

/** A fault that the real server finds by itself, as the request asks for it. */
function onTheServer(parameters: string, reason: RegExp): Trouble {
  return onTheWay({ kind: 'parameters', text: parameters }, 'inserts', reason);
}

function asUser(name: string, reason: RegExp): Trouble {
  return onTheWay({ kind: 'user', name }, 'inserts', reason);
}

function answer(head: string, body: string): Fault {
  return { kind: 'answer', bytes: `HTTP/1.1 ${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}` };
}

/** What can't be had from an embedded server, in its words. */
function exception(code: number, name: string): Trouble {
  const fault = answer(
    `500 Internal Server Error\r\nX-ClickHouse-Exception-Code: ${code}`,
    `Code: ${code}. DB::Exception: It is so. (${name}) (version 26.7.2.1)`,
  );
  return onTheWay(fault, 'inserts', new RegExp(name));
}

const command = (statement: string) => () => clickhouse.command(statement.replaceAll('TABLE_NAME', table));

const troubles: readonly (readonly [string, Trouble])[] = [
  [
    'the table is moved away',
    {
      begin: command('RENAME TABLE TABLE_NAME TO TABLE_NAME_away'),
      end: command('RENAME TABLE TABLE_NAME_away TO TABLE_NAME'),
      reason: /does not exist/,
    },
  ],
  [
    'there are too many parts',
    {
      begin: command('ALTER TABLE TABLE_NAME MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1'),
      end: command('ALTER TABLE TABLE_NAME RESET SETTING parts_to_delay_insert, parts_to_throw_insert'),
      reason: /TOO_MANY_PARTS/,
    },
  ],
  [
    'a view fails behind the table',
    {
      begin: async () => {
        await command('CREATE TABLE TABLE_NAME_target (n UInt64) ENGINE = MergeTree ORDER BY n')();
        await command('CREATE MATERIALIZED VIEW TABLE_NAME_view TO TABLE_NAME_target AS SELECT toUInt64(SpanName) AS n FROM TABLE_NAME')();
      },
      end: command('DROP VIEW TABLE_NAME_view'),
      reason: /while pushing to view/,
    },
  ],
  [
    'a computed column fails',
    {
      begin: command('ALTER TABLE TABLE_NAME ADD COLUMN n UInt64 MATERIALIZED toUInt64(SpanName)'),
      end: command('ALTER TABLE TABLE_NAME DROP COLUMN n'),
      reason: /CANNOT_PARSE_TEXT/,
    },
  ],
  [
    'the server is killed',
    { begin: () => clickhouse.kill(), end: () => clickhouse.restart(), reason: /ECONNREFUSED|ECONNRESET|socket hang up/ },
  ],
  ['the server hangs', { begin: () => clickhouse.pause(), end: () => clickhouse.resume(), reason: /within 3000 ms/ }],
  ['the user may only read', onTheServer('readonly=1', /READONLY/)],
  ['the user is unknown', asUser('nobody', /there is no user with such name/)],
  ['its privileges are taken away', asUser('reader', /necessary to have the grant INSERT.*ACCESS_DENIED/)],
  ['the quota is used up', asUser('metered', /QUOTA_EXCEEDED/)],
  [
    'the disk of the server is full',
    {
      begin: command(`ALTER TABLE TABLE_NAME MODIFY SETTING min_free_disk_bytes_to_perform_insert = ${10 ** 15}`),
      end: command('ALTER TABLE TABLE_NAME RESET SETTING min_free_disk_bytes_to_perform_insert'),
      reason: /NOT_ENOUGH_SPACE/,
    },
  ],
  ['the memory limit is too low', onTheServer('max_memory_usage=1000&max_untracked_memory=0', /MEMORY_LIMIT_EXCEEDED/)],
  ['the time limit is too low', onTheServer('max_execution_time=0.000001', /TIMEOUT_EXCEEDED/)],
  ['the profile is gone', onTheServer('profile=nobodys', /THERE_IS_NO_PROFILE/)],
  ['the replica is read-only', exception(242, 'TABLE_IS_READ_ONLY')],
  ['the keeper is lost', exception(999, 'KEEPER_EXCEPTION')],
  ['an exception is new to the collector', exception(4711, 'SOMETHING_NEW')],
  [
    'an exception comes in the header of a 200',
    onTheWay(answer('200 OK\r\nX-ClickHouse-Query-Id: 1\r\nX-ClickHouse-Exception-Code: 241', ''), 'inserts', /exception 241/),
  ],
  [
    'an exception comes in the body of a 200',
    onTheWay(answer('200 OK\r\nX-ClickHouse-Query-Id: 1', 'Code: 241. DB::Exception: Memory limit'), 'inserts', /Memory limit/),
  ],
  [
    'a proxy answers 200 with a page of its own',
    onTheWay(answer('200 OK\r\nContent-Type: text/html', '<h1>Welcome</h1>'), 'inserts', /not from ClickHouse: <h1>Welcome/),
  ],
  ['a proxy answers 200 with nothing', onTheWay(answer('200 OK', ''), 'inserts', /not from ClickHouse/)],
  ['a proxy answers 502', onTheWay(answer('502 Bad Gateway', '<h1>Bad Gateway</h1>'), 'all', /502|Bad Gateway/)],
  ['a proxy answers 413', onTheWay(answer('413 Content Too Large', ''), 'inserts', /HTTP status 413/)],
  ['a proxy redirects', onTheWay(answer('302 Found\r\nLocation: http://127.0.0.1:1/', ''), 'inserts', /HTTP status 302/)],
  ['a proxy answers garbage', onTheWay({ kind: 'answer', bytes: 'SSH-2.0-OpenSSH_9.6\r\n' }, 'all', /Parse Error/)],
  ['inserts are cut off as they come', onTheWay({ kind: 'cut request' }, 'inserts', /ECONNRESET|socket hang up/)],
  ['inserts arrive, and their answers do not', onTheWay({ kind: 'cut answer' }, 'inserts', /ECONNRESET|socket hang up/)],
  ['inserts vanish', onTheWay({ kind: 'stall' }, 'inserts', /within 3000 ms/)],
  ['inserts arrive, and their answers hang', onTheWay({ kind: 'hold answer' }, 'inserts', /within 3000 ms/)],
  ['everything vanishes', onTheWay({ kind: 'stall' }, 'all', /within 3000 ms/)],
];

describe('acknowledged spans are stored once after', () => {
  test.each(troubles)('%s', async (_, { begin, end, reason }) => {
    await using batching = start();
    const { availability, stats } = batching.storage;
    await availability.whenUp();
    await batching.push(5);
    await batching.drained();

    await begin();
    try {
      await batching.push(20);
      const isNoticed = () => stats.failedInserts > 0 && availability.status.state !== 'up' && reason.test(availability.status.reason);
      await until(isNoticed, `it is noticed, as ${reason}`);
    } finally {
      await end();
    }
    await batching.push(5);
    await batching.drained();

    expect(await stored([clickhouse], table)).toEqual({ rows: 30 * SPANS_PER_BLOCK, spans: 30 * SPANS_PER_BLOCK });
    expect(batching.workers.stats.refusedRows).toBe(0);
    expect(batching.deadLetters.count).toBe(0);
  });
});

test('a column that is re-typed while inserts go on is noticed, although ClickHouse takes them', async () => {
  await using batching = start();
  const { availability } = batching.storage;
  await availability.whenUp();
  await clickhouse.command(`ALTER TABLE ${table} MODIFY COLUMN Duration UInt32`);
  await until(
    () => availability.status.state === 'down' && /Duration as UInt32, which wraps/.test(availability.status.reason),
    'it is noticed',
    30_000,
  );
  await batching.push(5);
  expect((await stored([clickhouse], table)).rows).toBe(0);

  await clickhouse.command(`ALTER TABLE ${table} MODIFY COLUMN Duration UInt64`);
  await batching.drained();
  expect(await stored([clickhouse], table)).toEqual({ rows: 5 * SPANS_PER_BLOCK, spans: 5 * SPANS_PER_BLOCK });
});

test('an insert killed in the middle is stored once', async () => {
  await using batching = start();
  await batching.storage.availability.whenUp();
  for (let round = 0; round < 3; round++) {
    const insertsBefore = proxy.inserts;
    await batching.push(20);
    await until(() => proxy.inserts > insertsBefore, 'an insert is on its way');
    await clickhouse.kill();
    await clickhouse.restart();
  }
  await batching.drained();
  expect(await stored([clickhouse], table)).toEqual({ rows: 60 * SPANS_PER_BLOCK, spans: 60 * SPANS_PER_BLOCK });
});
