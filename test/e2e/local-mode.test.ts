import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/*
 * Local mode runs on a developer's machine, together with a browser and other users: none of them may read files by way of its
 * ClickHouse.
 */

const SECRET = 'the content of a private file';

describe('the ClickHouse of local mode', () => {
  const directory = mkdtempSync(join(tmpdir(), 'local-mode-'));
  const dataDir = join(directory, 'data');
  const file = join(directory, 'private.txt');
  const listener = createServer((socket) => socket.destroy());
  let connections = 0;
  let collector: Collector;
  let url: string;
  let user: string;

  beforeAll(async () => {
    writeFileSync(file, SECRET);
    mkdirSync(join(directory, 'folder'));
    listener.on('connection', () => connections++);
    await once(listener.listen(0, '127.0.0.1'), 'listening');
    collector = await start();
  });

  afterAll(async () => {
    await collector.stop();
    listener.close();
    rmSync(directory, { recursive: true });
  });

  async function start(): Promise<Collector> {
    const [port] = await freePorts(1);
    const started = await startCollector({
      program: 'local',
      env: { LOCAL_DATA_DIR: dataDir, LOCAL_CLICKHOUSE_PORT: String(port), DISK_BUFFER_MAX_SIZE_MB: '64' },
    });
    await until(() => started.output().includes('Ctrl-C stops both'), 'the instructions are printed');
    [, user = '', url = ''] = /curl -u (\S+) '(\S+)' -d/.exec(started.output()) ?? [];
    return started;
  }

  async function query(
    sql: string,
    headers: Record<string, string> = { authorization: `Basic ${Buffer.from(user).toString('base64')}` },
    search = '',
  ): Promise<{ status: number; text: string }> {
    const answer = await fetch(`${url}/${search}`, { method: 'POST', body: sql, headers: { connection: 'close', ...headers } });
    return { status: answer.status, text: await answer.text() };
  }

  test.each([
    ['a page of another site', { 'origin': 'http://evil.example', 'content-type': 'text/plain' }, ''],
    ['a page that has another name resolved to 127.0.0.1', { host: 'evil.example:8123' }, ''],
    ['another user of the machine', {}, ''],
    ['one that asks for more sessions', {}, '?max_sessions_for_user=0'],
    ['one that names the user alone', { 'x-clickhouse-user': 'local' }, ''],
  ])('answers nothing to %s', async (_who, headers, search) => {
    for (const sql of [
      'SELECT currentUser()',
      `SELECT file('${file}')`,
      `SELECT * FROM file('${file}', LineAsString)`,
      'SELECT * FROM otel_traces',
      'SYSTEM STOP LISTEN HTTP',
    ]) {
      const { status, text } = await query(sql, headers, search);
      expect({ sql, text, isRefused: status >= 400 }).toMatchObject({
        isRefused: true,
        text: expect.stringMatching(/AUTHENTICATION_FAILED|USER_SESSION_LIMIT_EXCEEDED/),
      });
    }
  });

  test('lets its own user do what traces need', async () => {
    for (const sql of [
      'SELECT count() FROM otel_traces',
      'CREATE DATABASE mine',
      'CREATE TABLE mine.t (a UInt8) ENGINE = MergeTree ORDER BY a',
      'CREATE MATERIALIZED VIEW mine.v ENGINE = SummingMergeTree ORDER BY a AS SELECT a FROM mine.t',
      'INSERT INTO mine.t SELECT number FROM numbers(3)',
      'ALTER TABLE mine.t ADD COLUMN b String',
      'SELECT sum(a) FROM mine.v',
      'CREATE TEMPORARY TABLE x (a UInt8)',
      'TRUNCATE TABLE mine.t',
      'DROP DATABASE mine',
    ]) {
      expect(await query(sql), sql).toMatchObject({ status: 200 });
    }
  });

  const to = () => `http://127.0.0.1:${(listener.address() as AddressInfo).port}/bucket/key`;
  const address = () => `127.0.0.1:${(listener.address() as AddressInfo).port}`;
  const folder = join(directory, 'folder');

  test('reads no file outside, and reaches no other server, for any user', async () => {
    const sources = [
      `file('${file}', LineAsString)`,
      `file('${file}', LineAsString, 'a String')`,
      `filesystem('${directory}')`,
      `icebergLocal('${folder}')`,
      `deltaLakeLocal('${folder}')`,
      `paimonLocal('${folder}')`,
      `sqlite('${file}', 't')`,
      `executable('cat ${file}', LineAsString, 'a String')`,
      `loop(file('${file}', LineAsString))`,
      `view(SELECT * FROM file('${file}', LineAsString))`,
      `url('${to()}', LineAsString, 'a String')`,
      `s3('${to()}', LineAsString, 'a String')`,
      `s3('${to()}', NOSIGN, LineAsString, 'a String')`,
      `iceberg('${to()}')`,
      `deltaLake('${to()}')`,
      `hudi('${to()}')`,
      `hdfs('hdfs://${address()}/x', LineAsString, 'a String')`,
      `azureBlobStorage('DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;BlobEndpoint=${to()};', ` +
        `'c', 'b', 'CSV', 'auto', 'a String')`,
      `remote('${address()}', default, t)`,
      `remoteSecure('${address()}', default, t)`,
      `postgresql('${address()}', 'd', 't', 'u', 'p')`,
      `mysql('${address()}', 'd', 't', 'u', 'p')`,
      `mongodb('${address()}', 'd', 't', 'u', 'p', 'a String')`,
      `redis('${address()}', 'a', 'a String')`,
      `ytsaurus('${to()}', '//t', 'x', 'a String')`,
      `odbc('DSN=x', 't')`,
      `jdbc('x', 't')`,
    ];
    const disks = [
      `type = local, path = '${folder}/'`,
      `type = object_storage, object_storage_type = local, path = '${folder}/'`,
      `type = web, endpoint = '${to()}/'`,
      `type = s3, endpoint = '${to()}/', access_key_id = 'a', secret_access_key = 'b'`,
    ];
    const statements = [
      ...sources.map((source) => `SELECT * FROM ${source}`),
      ...disks.map((disk) => `CREATE TABLE on_disk (a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(${disk})`),
      `SELECT file('${file}')`,
      `SELECT file('../../../../../../../..${file}')`,
      `CREATE TABLE copy (a String) ENGINE = MergeTree ORDER BY a AS SELECT file('${file}')`,
      `SELECT 1 AS a FORMAT Template SETTINGS format_template_row = '${file}'`,
      `SELECT 1 AS a FORMAT Template SETTINGS format_template_resultset = '${file}'`,
      `SELECT 1 AS a FORMAT Protobuf SETTINGS format_schema = '${file}:X'`,
      `SELECT * FROM format(AvroConfluent, 'a String', '\\0\\0\\0\\0\\1abc') SETTINGS format_avro_schema_registry_url = '${to()}'`,
      `INSERT INTO FUNCTION file('${directory}/written', 'CSV', 'a UInt8') VALUES (1)`,
      `INSERT INTO FUNCTION url('${to()}', 'CSV', 'a UInt8') VALUES (1)`,
      `SELECT 1 INTO OUTFILE '${directory}/written'`,
      `CREATE VIEW v SQL SECURITY NONE AS SELECT * FROM file('${file}', LineAsString)`,
      `CREATE VIEW v DEFINER = default SQL SECURITY DEFINER AS SELECT * FROM file('${file}', LineAsString)`,
      ...[
        `FILE(path '${file}' format 'LineAsString')`,
        `HTTP(url '${to()}' format 'CSV')`,
        `EXECUTABLE(command 'cat ${file}' format 'CSV')`,
      ].map((source) => `CREATE DICTIONARY d (a UInt64, b String) PRIMARY KEY a SOURCE(${source}) LAYOUT(FLAT()) LIFETIME(0)`),
      `ATTACH TABLE attached FROM '${folder}' (a String) ENGINE = MergeTree ORDER BY a`,
      `BACKUP DATABASE default TO File('${directory}/written')`,
      `CREATE DATABASE d ENGINE = Filesystem('${directory}')`,
      'CREATE USER another',
      'GRANT ALL ON *.* TO local',
      'SYSTEM SHUTDOWN',
      'SYSTEM STOP LISTEN HTTP',
    ];
    for (const sql of statements) {
      const { status, text } = await query(sql);
      expect({ sql, text, isRefused: status >= 400 }).toMatchObject({ isRefused: true, text: expect.not.stringContaining(SECRET) });
    }

    expect((await query('CREATE TABLE lines (a String) ENGINE = Memory')).status).toBe(200);
    expect((await query(`INSERT INTO lines FROM INFILE '${file}' FORMAT LineAsString`)).status).toBeGreaterThanOrEqual(400);
    expect((await query('SELECT * FROM lines')).text).toBe('');
    expect(connections).toBe(0);
    expect(existsSync(join(directory, 'written'))).toBe(false);
  });

  test('has no engine, of tables or databases, that keeps or reads its data elsewhere', async () => {
    const [tables, databases] = await Promise.all(
      ['table', 'database'].map(async (kind) => (await query(`SELECT name FROM system.${kind}_engines`)).text.trim().split('\n')),
    );
    const created = [];
    for (const engine of tables) {
      const { text } = await query(`CREATE TABLE of_${engine} (a String) ENGINE = ${engine} ORDER BY a`);
      if (!text.includes('ACCESS_DENIED')) created.push(engine);
    }
    for (const engine of databases) {
      const { text } = await query(`CREATE DATABASE of_${engine} ENGINE = ${engine}`);
      if (!text.includes('ACCESS_DENIED')) created.push(engine);
    }
    expect(created.toSorted()).toEqual([
      'AggregatingMergeTree',
      'Atomic',
      'Buffer',
      'CollapsingMergeTree',
      'MaterializedView',
      'Memory',
      'Memory',
      'Merge',
      'MergeTree',
      'Null',
      'ReplacingMergeTree',
      'SummingMergeTree',
      'VersionedCollapsingMergeTree',
      'View',
    ]);
  });

  test('keeps its password over restarts, where only its owner can read it', async () => {
    expect(statSync(join(dataDir, 'clickhouse-password')).mode & 0o777).toBe(0o600);
    for (const path of [dataDir, join(dataDir, 'clickhouse')]) expect(statSync(path).mode & 0o777).toBe(0o700);
    const before = user;
    expect(before).toMatch(/^local:[\w-]{24}$/);
    await collector.stop();
    collector = await start();
    expect(user).toBe(before);
    expect(await query('SELECT currentUser()')).toEqual({ status: 200, text: 'local\n' });
  });
});
