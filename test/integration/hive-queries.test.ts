import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createStatements, type SchemaOptions } from '../../src/schema/schema.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { blockOf, insertBlock } from '../support/generators/blocks.ts';
import { Random } from '../support/generators/random.ts';
import { variedJson } from '../support/generators/varied-json.ts';
import { clientRequests, firstSecond, rootWith } from '../support/oracle/hive-requests.ts';
import { hiveStatements } from '../support/oracle/hive-tables.ts';
import { encodeRequest } from '../support/oracle/otlp-request.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';

/*
 * What Hive's console asks, of Hive's own tables and of ours, filled with the same blocks: the same answers, and the right ones.
 * The server shows times in another zone than UTC, which Hive's must not depend on.
 */

const ABROAD = '<profiles><default><session_timezone>America/St_Johns</session_timezone></default></profiles>';
const TARGET = 'a target';
/** Databases of ours, by how their tables come about. */
const LAYOUTS = { ours: 'the layout hive', grown: 'the table of CLICKHOUSE_CREATE_SCHEMA, and the layout hive on top' };

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false, users: ABROAD });
  const statements = [
    ...hiveStatements('hive'),
    ...statementsOf('ours', 'hive'),
    ...statementsOf('grown', 'spans'),
    ...statementsOf('grown', 'hive'),
  ];
  for (const statement of statements) await clickhouse.command(statement);
  for (const { encoding, request } of clientRequests) {
    const encoder = new BlockEncoder('hive');
    encoder.add([encoding === 'json' ? variedJson(request, new Random(1)) : encodeRequest(request)], encoding, TARGET);
    await insertEverywhere(encoder.seal().frame);
  }
  const many = Array.from({ length: 60 }, (_, i) => rootWith([], i)).flatMap(({ resourceSpans }) => resourceSpans);
  await insertEverywhere(blockOf({ resourceSpans: many }, 'hive', 'another target'));
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

function statementsOf(database: string, layout: SchemaOptions['layout']): readonly string[] {
  return createStatements({ database, table: 'otel_traces', layout });
}

async function insertEverywhere(block: Buffer): Promise<void> {
  for (const database of ['hive', ...Object.keys(LAYOUTS)]) await insertBlock(clickhouse, block, `${database}.otel_traces`);
}

async function ask<Row>(database: string, query: string): Promise<Row[]> {
  return clickhouse.query<Row>(query.replaceAll('{db}', database));
}

function timeOf(second: number): string {
  return new Date((firstSecond + second) * 1000).toISOString().slice(0, 19).replace('T', ' ');
}

const COLUMNS = `target_id, trace_id, span_id, timestamp, duration,
  http_status_code, http_method, http_host, http_route, http_url, client_name, client_version,
  graphql_operation_name, graphql_operation_type, graphql_operation_document, graphql_operation_hash,
  graphql_error_count, graphql_error_codes, subgraph_names`;
const WITHIN = `timestamp >= toDateTime('${timeOf(0)}', 'UTC') AND timestamp <= toDateTime('${timeOf(60)}', 'UTC')`;
const OF_TARGET = `target_id = '${TARGET}' AND ${WITHIN}`;

const list = (filter = '1', target = OF_TARGET) =>
  `SELECT ${COLUMNS} FROM {db}.otel_traces_normalized WHERE ${target} AND ${filter} ORDER BY timestamp DESC, trace_id DESC LIMIT 51`;

const quoted = (ids: readonly string[]) => ids.map((id) => `'${id}'`).join(', ');

interface Listed {
  trace_id: string;
}

/** A look-up by ids asks first in which time the traces are, so that few parts are read. @returns the condition on a time */
async function withinTimesOf(database: string, ids: readonly string[], column: string): Promise<string> {
  const query = `SELECT toUnixTimestamp(min(Start)) AS first, toUnixTimestamp(max(End)) AS last
    FROM {db}.otel_traces_trace_id_ts WHERE TraceId IN (${quoted(ids)})`;
  const [{ first, last }] = await ask<{ first: number; last: number }>(database, query);
  return `${column} >= toDateTime64(${first}, 9, 'UTC') AND ${column} < toDateTime64(${last + 1}, 9, 'UTC')`;
}

async function byIds(database: string, ids: readonly string[]): Promise<Listed[]> {
  const times = await withinTimesOf(database, ids, 'timestamp');
  return ask(
    database,
    `SELECT ${COLUMNS} FROM {db}.otel_traces_normalized
     WHERE trace_id IN (${quoted(ids)}) AND ${times} ORDER BY trace_id LIMIT 1 BY trace_id`,
  );
}

async function spansOf<Row>(database: string, id: string): Promise<Row[]> {
  const times = await withinTimesOf(database, [id], 'Timestamp');
  return ask(
    database,
    `SELECT *, addNanoseconds(Timestamp, Duration) AS end FROM {db}.otel_traces
     WHERE TraceId = '${id}' AND ${times} ORDER BY Timestamp, SpanId`,
  );
}

const BUCKETS = `SELECT toStartOfInterval(timestamp, INTERVAL 2 SECOND) AS bucket,
    countIf(graphql_error_count = 0) AS ok, countIf(graphql_error_count > 0) AS failed
  FROM {db}.otel_traces_normalized WHERE ${OF_TARGET} GROUP BY bucket ORDER BY bucket`;
const frequent = (column: string) =>
  `SELECT ${column} AS value, count() AS requests
   FROM {db}.otel_traces_normalized WHERE ${OF_TARGET} GROUP BY value ORDER BY requests DESC, value LIMIT 5`;
const frequentOf = (column: string) =>
  `SELECT value, count() AS requests
   FROM {db}.otel_traces_normalized ARRAY JOIN ${column} AS value WHERE ${OF_TARGET} GROUP BY value ORDER BY requests DESC, value LIMIT 5`;

const FILTERS = [
  'duration >= 20000000 AND duration <= 60000000',
  "http_status_code IN ('500', '400')",
  "http_method IN ('POST')",
  "http_host IN ('gateway.example.com')",
  "http_route IN ('/graphql')",
  "http_url IN ('http://gateway.example.com/graphql')",
  "client_name IN ('web')",
  "client_version IN ('1.2')",
  "graphql_operation_name IN ('Posts', 'Me')",
  "graphql_operation_type IN ('mutation', '')",
  "graphql_operation_hash = '291138c2cc653f49875c561e9ca1bb00'",
  'graphql_error_count > 0',
  'graphql_error_count = 0',
  "hasAny(graphql_error_codes, ['A,B'])",
  `trace_id IN ('${clientRequests[0].traceId}')`,
];
const TEXT_COLUMNS = [
  'http_status_code',
  'http_method',
  'http_host',
  'http_route',
  'http_url',
  'client_name',
  'client_version',
  'graphql_operation_name',
  'graphql_operation_type',
];

const withRequests = clientRequests.filter(({ listed }) => listed !== undefined);
/** The rows that the console lists, newest first. */
const expected = withRequests
  .map(({ listed, traceId, rootSpanId, second, durationNs }) => ({
    target_id: TARGET,
    trace_id: traceId,
    span_id: rootSpanId,
    timestamp: timeOf(second),
    duration: String(durationNs),
    ...listed,
  }))
  .toReversed()
  .toSorted((a, b) => b.timestamp.localeCompare(a.timestamp) || b.trace_id.localeCompare(a.trace_id));

/** Without the subgraphs of Router's requests, which Hive's own view does not list. */
function asInHive<Row extends { trace_id: string }>(rows: Row[]): Row[] {
  const known = new Map(clientRequests.map(({ traceId, subgraphsInHive }) => [traceId, subgraphsInHive]));
  return rows.map((row) => ({ ...row, ...(known.get(row.trace_id) && { subgraph_names: known.get(row.trace_id) }) }));
}

describe.each(Object.entries(LAYOUTS))('%s (%s)', (database) => {
  test('lists the requests of a target, newest first', async () => {
    expect(await ask(database, list())).toEqual(expected);
  });

  test("lists what Hive's own tables list, but for the subgraphs of Router's requests, which those leave out", async () => {
    const hive = await ask<Listed>('hive', list());
    expect(hive).toEqual(asInHive(expected));
    expect(asInHive(await ask<Listed>(database, list()))).toEqual(hive);
  });

  test('lists at most 51', async () => {
    const other = list('1', `target_id = 'another target' AND ${WITHIN}`);
    const rows = await ask(database, other);
    expect(rows).toHaveLength(51);
    expect(rows).toEqual(await ask('hive', other));
  });

  test.each(FILTERS)('lists those with %s', async (filter) => {
    const hive = await ask<Listed>('hive', list(filter));
    expect(hive.length).toBeGreaterThan(0);
    expect(asInHive(await ask<Listed>(database, list(filter)))).toEqual(hive);
  });

  test('lists those with a subgraph', async () => {
    expect(await ask(database, list("hasAny(subgraph_names, ['users'])"))).toEqual(
      expected.filter((row) => row.subgraph_names?.includes('users')),
    );
    const billing = list("hasAny(subgraph_names, ['billing, EU'])");
    expect(await ask(database, billing)).toEqual(await ask('hive', billing));
  });

  test('finds requests by the ids of their traces', async () => {
    const ids = clientRequests.filter(({ client }) => !client.startsWith('Router')).map(({ traceId }) => traceId);
    const rows = await byIds(database, ids);
    expect(rows.map((row) => row.trace_id)).toEqual(withRequests.map(({ traceId }) => traceId).filter((id) => ids.includes(id)));
    expect(rows).toEqual(await byIds('hive', ids));
  });

  test.each(clientRequests)('shows the spans of a trace: $client', async ({ traceId, request }) => {
    const rows = await spansOf(database, traceId);
    expect(rows).toHaveLength(request.resourceSpans[0].scopeSpans[0].spans.length);
    expect(rows).toEqual(await spansOf('hive', traceId));
  });

  test('shows ends and times of events in UTC, to the nanosecond', async () => {
    const { traceId } = clientRequests[1];
    const [root] = await spansOf<Record<string, unknown>>(database, traceId);
    expect(root).toMatchObject({
      Timestamp: `${timeOf(0)}.000000001`,
      end: `${timeOf(0)}.020000002`,
      'Events.Timestamp': [`${timeOf(0)}.123456789`],
      StatusCode: 'STATUS_CODE_ERROR',
    });
  });

  test('counts requests over time, with and without errors', async () => {
    const rows = await ask(database, BUCKETS);
    expect(rows).toEqual([
      { bucket: timeOf(0), ok: '2', failed: '1' },
      { bucket: timeOf(2), ok: '2', failed: '2' },
    ]);
    expect(rows).toEqual(await ask('hive', BUCKETS));
  });

  test.each(TEXT_COLUMNS)('offers the most frequent values of %s', async (column) => {
    const rows = await ask(database, frequent(column));
    expect(rows.length).toBeGreaterThan(0);
    expect(rows).toEqual(await ask('hive', frequent(column)));
  });

  test('offers the most frequent codes of errors, and subgraphs', async () => {
    const codes = await ask(database, frequentOf('graphql_error_codes'));
    expect(codes).toEqual(
      ['A,B', 'DOWNSTREAM_SERVICE_ERROR', "IT'S", 'SAID "NO"', 'back\\slash'].map((value) => ({ value, requests: '1' })),
    );
    expect(codes).toEqual(await ask('hive', frequentOf('graphql_error_codes')));
    expect(await ask(database, frequentOf('subgraph_names'))).toEqual([
      { value: 'users', requests: '3' },
      { value: 'posts', requests: '2' },
      { value: 'billing, EU', requests: '1' },
    ]);
  });
});

/** Whatever a sender puts into an attribute: no insert may fail by it, and only text that is no JSON is read otherwise than by Hive. */
const HOSTILE = [
  '',
  ' ',
  ',',
  ',,',
  '[]',
  '[ ]',
  '[',
  ']',
  '[[[',
  '["a"',
  '["a","b',
  '["a",]',
  "['a']",
  '["a"] x',
  '\n["a"]',
  '[""]',
  '["a,b"]',
  '["a\\"b"]',
  '["\\u00e9\\ud83d\\ude00"]',
  '["\\ud800"]',
  '[1,2]',
  '[1.5,"a",null,true,{"x":"y"},["z"]]',
  '{}',
  '{"0":"a"}',
  '"a"',
  '"a,b"',
  'null',
  'true',
  '1',
  '-1',
  '4294967295',
  '4294967296',
  '-4294967297',
  '9223372036854775807',
  '9223372036854775808',
  '99999999999999999999',
  '1.0',
  '1e3',
  ' 1',
  '0x1',
  '\u0000',
  '["\u0000"]',
  '\ufeff["a"]',
  `[${'['.repeat(2000)}`,
  `["${'x'.repeat(100_000)}"]`,
  'NaN',
  '\\',
  '%s',
  '{db}',
];

describe('any value', () => {
  beforeAll(async () => {
    const attributes = ['hive.graphql.error.codes', 'hive.graphql.error.count', 'hive.gateway.operation.subgraph.names'];
    const spans = HOSTILE.flatMap(
      (stringValue, i) =>
        rootWith(
          attributes.map((key) => ({ key, value: { stringValue } })),
          i,
        ).resourceSpans,
    );
    await insertEverywhere(blockOf({ resourceSpans: spans }, 'hive', 'hostile'));
  });

  const query = "SELECT * EXCEPT subgraph_names FROM {db}.otel_traces_normalized WHERE target_id = 'hostile' ORDER BY trace_id";

  test.each(Object.keys(LAYOUTS))("is stored in %s as in Hive's table", async (database) => {
    const rows = await ask(database, query);
    expect(rows).toHaveLength(HOSTILE.length);
    expect(rows).toEqual(await ask('hive', query));
  });

  test('of the subgraphs is read as by Hive, or as names with commas if it is no JSON', async () => {
    const names = `SELECT subgraph_names AS names, SpanAttributes['hive.gateway.operation.subgraph.names'] AS text
      FROM {db}.otel_traces_normalized AS n INNER JOIN {db}.otel_traces AS t ON n.trace_id = t.TraceId
      WHERE target_id = 'hostile' AND SpanAttributes['hive.target_id'] = 'hostile' ORDER BY trace_id`;
    const ours = await ask<{ names: string[]; text: string }>('ours', names);
    const hive = await ask<{ names: string[]; text: string }>('hive', names);
    const asJson = /^[ \n]*[[{"]/;
    expect(ours.filter(({ text }) => asJson.test(text))).toEqual(hive.filter(({ text }) => asJson.test(text)));
    const others = ours.filter(({ text }) => !asJson.test(text));
    expect(others.length).toBeGreaterThan(20);
    for (const { names: listed, text } of others)
      expect(listed).toEqual(
        text
          .split(',')
          .map((name) => name.replace(/^ +| +$/g, ''))
          .filter(Boolean),
      );
  });
});

describe('the layout hive', () => {
  test.each([
    ['columns', "SELECT table, name, type FROM system.columns WHERE database = '{db}' AND table NOT LIKE '%_mv' ORDER BY table, position"],
    [
      'codecs of columns that are not of the default',
      `SELECT table, name, compression_codec FROM system.columns WHERE database = '{db}' AND table NOT LIKE '%_mv'
       AND compression_codec NOT IN ('', 'CODEC(ZSTD(1))', 'CODEC(T64, ZSTD(1))') ORDER BY table, position`,
    ],
    [
      'indexes',
      "SELECT table, name, expr, type_full, granularity FROM system.data_skipping_indices WHERE database = '{db}' ORDER BY table, name",
    ],
    [
      'keys, TTL and settings',
      "SELECT name, engine_full FROM system.tables WHERE database = '{db}' AND engine NOT LIKE '%View' ORDER BY name",
    ],
    ['views', "SELECT name, engine FROM system.tables WHERE database = '{db}' AND engine LIKE '%View' ORDER BY name"],
  ])("has the %s of Hive's tables", async (_, query) => {
    const rows = await ask('ours', query);
    expect(rows.length).toBeGreaterThan(1);
    expect(rows).toEqual(await ask('hive', query));
  });
});
