import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs/light.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ExportTraceServiceResponse } from '../../src/otlp/messages.ts';
import { createStatements } from '../../src/storage/table.ts';
import { EXPORT, grpcClient } from '../support/clients/grpc-client.ts';
import { type Answer, JSON_TYPE, PROTOBUF_TYPE, send, statusOf, successOf } from '../support/clients/otlp-client.ts';
import { bytesField, fixed64Field, messageField, stringField } from '../support/generators/wire.ts';
import { startApp, type TestApp } from '../support/servers/app.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/* Bodies as people send them, over HTTP in both encodings and over gRPC, and what is in ClickHouse then. */

const MAPS = 'Map(LowCardinality(String), String)';
const NOW = BigInt(Date.now()) * 1_000_000n;
const TRACE_ID = '0123456789abcdef0123456789abcdef';
const LAST = 2n ** 63n - 1n;

let clickhouse: TestClickHouse;
let targets = 0;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

async function startReady(environment: Record<string, string> = {}): Promise<TestApp> {
  const app = await startApp({ CLICKHOUSE_URL: clickhouse.url, CLICKHOUSE_CREATE_SCHEMA: 'true', DISABLE_AUTH: 'true', ...environment });
  await until(async () => (await send(`${app.urls.admin}/ready`, '', { method: 'GET' })).status === 200, 'the app is ready');
  return app;
}

interface Sent {
  readonly answer: Answer;
  /** The rows that are stored of it. */
  readonly rows: <Row>(columns: string) => Promise<Row[]>;
}

async function post(app: TestApp, body: Uint8Array | object, table = 'otel_traces'): Promise<Sent> {
  const target = `target ${++targets}`;
  const isProtobuf = body instanceof Uint8Array;
  const headers = { ...(isProtobuf ? PROTOBUF_TYPE : JSON_TYPE), 'x-hive-target-ref': target };
  const answer = await send(`${app.urls.otlp}/v1/traces`, isProtobuf ? body : JSON.stringify(body), { headers });
  const attribute = table === 'otel_traces' ? "SpanAttributes['hive.target_id']" : 'SpanAttributes.`hive.target_id`::String';
  return {
    answer,
    rows: (columns) => clickhouse.query(`SELECT ${columns} FROM ${table} WHERE ${attribute} = '${target}' ORDER BY SpanName`),
  };
}

/** A span in Protobuf, in its request. */
const spanBytes = (...fields: Buffer[]) => request(2, messageField(2, fields));
/** Scope spans under this number. */
const request = (number: number, ...scopeFields: Buffer[]) => messageField(1, [messageField(number, scopeFields)]);
const spanJson = (...spans: object[]) => ({ resourceSpans: [{ scopeSpans: [{ spans }] }] });
const START = fixed64Field(7, NOW);
const END = fixed64Field(8, NOW + 5n);
const IDS = [bytesField(1, Buffer.from(TRACE_ID, 'hex')), bytesField(2, Buffer.alloc(8, 2))];

describe.each(['hive', 'otelcol'] as const)('in the dialect %s', (dialect) => {
  let app: TestApp;
  let grpcPort = 0;

  beforeAll(async () => {
    [grpcPort] = await freePorts(1);
    app = await startReady({ ROW_DIALECT: dialect, GRPC_PORT: String(grpcPort) });
  });
  afterAll(() => app[Symbol.asyncDispose]());

  describe.each(['Protobuf', 'JSON'] as const)('as %s', (encoding) => {
    const of = (protobufBody: Uint8Array, jsonBody: object) => post(app, encoding === 'JSON' ? jsonBody : protobufBody);

    test.each([
      ['zeros', Buffer.alloc(8), '0000000000000000'],
      ['nothing', Buffer.alloc(0), ''],
    ])('a parent id of %s is that of a root, and a link of zeros leads nowhere', async (_, parent, text) => {
      const link = messageField(13, [bytesField(1, Buffer.alloc(16)), bytesField(2, Buffer.alloc(8))]);
      const json = {
        traceId: TRACE_ID,
        spanId: '0202020202020202',
        parentSpanId: text,
        startTimeUnixNano: String(NOW),
        links: [{ traceId: '0'.repeat(32), spanId: '0'.repeat(16) }],
      };
      const { answer, rows } = await of(spanBytes(...IDS, START, bytesField(4, parent), link), spanJson(json));
      expect(successOf(answer)).toEqual({});
      expect(await rows('TraceId, SpanId, ParentSpanId, Links.TraceId AS traces, Links.SpanId AS spans')).toEqual([
        { TraceId: TRACE_ID, SpanId: '0202020202020202', ParentSpanId: '', traces: [''], spans: [''] },
      ]);
    });

    test('a span without a start starts when it ends, and its sender is told', async () => {
      const { answer, rows } = await of(spanBytes(...IDS, END), spanJson({ traceId: TRACE_ID, endTimeUnixNano: String(NOW + 5n) }));
      expect(successOf(answer)).toMatchObject({
        partialSuccess: { errorMessage: '1 span has no start time: the end time is stored instead.' },
      });
      expect(rejectedOf(answer)).toBe(0);
      expect(await rows('toUnixTimestamp64Nano(Timestamp) AS start, Duration')).toEqual([{ start: String(NOW + 5n), Duration: '0' }]);
    });

    test('a span without any time is left out, and the others are stored', async () => {
      const body = request(2, messageField(2, [...IDS, START]), messageField(2, IDS));
      const { answer, rows } = await of(
        body,
        spanJson({ traceId: TRACE_ID, startTimeUnixNano: String(NOW) }, { traceId: TRACE_ID, startTimeUnixNano: 0 }),
      );
      expect(rejectedOf(answer)).toBe(1);
      expect(successOf(answer).partialSuccess?.errorMessage).toContain('no time at all');
      expect(await rows('TraceId')).toHaveLength(1);
    });

    test('a bad id counts for more than a missing time: without any good id, the request is refused', async () => {
      const { answer } = await of(spanBytes(bytesField(1, Buffer.alloc(3, 1))), spanJson({ traceId: '010101' }));
      expect(answer.status).toBe(400);
      expect(statusOf(answer).message).toContain('a trace id has 16 bytes');
    });

    test('a time that ClickHouse does not have is the last that it has, so that every query can read the row', async () => {
      const last = 2n ** 64n - 1n;
      const body = spanBytes(
        ...IDS,
        START,
        fixed64Field(8, last),
        messageField(11, [fixed64Field(1, last)]),
        messageField(11, [fixed64Field(1, 0n)]),
      );
      const events = [{ timeUnixNano: String(last) }, { timeUnixNano: 0 }];
      const { answer, rows } = await of(
        body,
        spanJson({ traceId: TRACE_ID, startTimeUnixNano: String(NOW), endTimeUnixNano: String(last), events }),
      );
      expect(successOf(answer).partialSuccess?.errorMessage).toContain('1 span has a time after 2262-04-11');
      expect(rejectedOf(answer)).toBe(0);
      const columns = `toUnixTimestamp64Nano(addNanoseconds(Timestamp, Duration)) AS end,
        arrayMap(time -> toUnixTimestamp64Nano(time), Events.Timestamp) AS events`;
      expect(await rows(columns)).toEqual([{ end: String(LAST), events: [String(LAST), '0'] }]);
    });

    test('spans of before OTLP 0.15 are read', async () => {
      const body = request(
        1000,
        messageField(1, [stringField(1, 'library'), stringField(2, '0.1')]),
        messageField(2, [...IDS, START, stringField(5, 'old')]),
      );
      const libraries = [
        {
          instrumentationLibrary: { name: 'library', version: '0.1' },
          spans: [{ traceId: TRACE_ID, name: 'old', startTimeUnixNano: String(NOW) }],
        },
      ];
      const { answer, rows } = await of(body, { resourceSpans: [{ instrumentationLibrarySpans: libraries }] });
      expect(successOf(answer)).toEqual({});
      expect(await rows('SpanName, ScopeName, ScopeVersion')).toEqual([{ SpanName: 'old', ScopeName: 'library', ScopeVersion: '0.1' }]);
    });
  });

  test('over gRPC, too, a parent id of zeros is that of a root, and a link of zeros leads nowhere', async () => {
    const link = messageField(13, [bytesField(1, Buffer.alloc(16)), bytesField(2, Buffer.alloc(8))]);
    const target = `target ${++targets}`;
    using client = grpcClient(grpcPort);
    const { code } = await client.call(EXPORT, spanBytes(...IDS, START, bytesField(4, Buffer.alloc(8)), link), {
      'x-hive-target-ref': target,
    });
    expect(code).toBe('OK');
    const rows = await clickhouse.query(
      `SELECT ParentSpanId, Links.TraceId AS traces, Links.SpanId AS spans
       FROM otel_traces WHERE SpanAttributes['hive.target_id'] = '${target}'`,
    );
    expect(rows).toEqual([{ ParentSpanId: '', traces: [''], spans: [''] }]);
  });

  test('enums are read by their names in any case, with and without prefix; of an unknown name the sender is told', async () => {
    const given = [
      ['1', 'SERVER', 'ERROR'],
      ['2', 'server', 'Error'],
      ['3', 'Span_Kind_Server', 'status_code_error'],
      ['4', 'SPAN_KIND_SERVER', 'STATUS_CODE_ERROR'],
      ['5', 'SERVERS', 'OKAY'],
    ];
    const { answer, rows } = await post(
      app,
      spanJson(...given.map(([name, kind, code]) => ({ name, kind, status: { code }, startTimeUnixNano: String(NOW) }))),
    );
    expect(successOf(answer)).toMatchObject({
      partialSuccess: { errorMessage: '1 span has a kind or status code with an unknown name: it is stored as unspecified.' },
    });
    expect(rejectedOf(answer)).toBe(0);
    const [known, unknown] =
      dialect === 'hive'
        ? [
            ['SPAN_KIND_SERVER', 'STATUS_CODE_ERROR'],
            ['SPAN_KIND_UNSPECIFIED', 'STATUS_CODE_UNSET'],
          ]
        : [
            ['Server', 'Error'],
            ['', ''],
          ];
    const stored = await rows<{ kind: string; code: string }>('SpanKind AS kind, StatusCode AS code');
    expect(stored.map(({ kind, code }) => [kind, code])).toEqual([known, known, known, known, unknown]);
  });

  test('text that is not UTF-8 is kept in plain values, and repaired where JSON is written', async () => {
    const bad = Buffer.from('a\xffb\xe2\x82', 'latin1');
    const list = messageField(5, [messageField(1, [bytesField(1, bad)])]);
    const map = messageField(6, [messageField(1, pair(bad, bytesField(1, bad)))]);
    const body = spanBytes(
      ...IDS,
      START,
      messageField(9, pair('plain', bytesField(1, bad))),
      messageField(9, pair('list', list)),
      messageField(9, pair('map', map)),
    );
    const { rows } = await post(app, body);
    const text = bad.toString();
    expect(
      await rows(
        `hex(SpanAttributes['plain']) AS plain, SpanAttributes['list'] AS list, SpanAttributes['map'] AS map,
         isValidJSON(list) AND isValidJSON(map) AS valid`,
      ),
    ).toEqual([
      { plain: bad.toString('hex').toUpperCase(), list: JSON.stringify([text]), map: JSON.stringify({ [text]: text }), valid: 1 },
    ]);
    const escaped = await send(
      `${app.urls.otlp}/v1/traces`,
      JSON.stringify(
        spanJson({
          name: 'surrogate',
          startTimeUnixNano: String(NOW),
          attributes: [{ key: 'list', value: { arrayValue: { values: [{ stringValue: 'a\ud800' }] } } }],
        }),
      ),
      { headers: { ...JSON_TYPE, 'x-hive-target-ref': 'surrogates' } },
    );
    expect(escaped.status).toBe(200);
    expect(await clickhouse.query(`SELECT DISTINCT SpanAttributes['list'] AS list FROM otel_traces WHERE SpanName = 'surrogate'`)).toEqual([
      { list: '["a\ufffd"]' },
    ]);
  });

  describe('what is no request for traces is refused, and the answer says what it looks like', () => {
    test.each(otherSignals())('%s', async (_, body, says) => {
      const { answer, rows } = await post(app, body);
      expect(answer.status).toBe(400);
      expect(statusOf(answer).message).toContain(says);
      expect(await rows('1')).toEqual([]);
    });

    test.each(otherSignals().filter(([, body]) => body instanceof Uint8Array))('over gRPC, too: %s', async (_, body, says) => {
      using client = grpcClient(grpcPort);
      const { code, message } = await client.call(EXPORT, body instanceof Uint8Array ? body : Buffer.alloc(0), {
        'x-hive-target-ref': 'grpc',
      });
      expect({ code, message }).toEqual({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(says) });
    });
  });

  test.each([
    ['nothing', {}],
    ['an unknown member', { unknown: [1] }],
    ['an unknown member beside spans', { ...spanJson({ startTimeUnixNano: String(NOW) }), unknown: {} }],
    ['logs beside spans', { resourceLogs: [], ...spanJson({ startTimeUnixNano: String(NOW) }) }],
    ['no bytes', Buffer.alloc(0)],
    ['a resource without spans', request(2)],
  ])('a request of %s is taken', async (_, body) => {
    const { answer } = await post(app, body);
    expect(answer.status).toBe(200);
    expect(successOf(answer)).toEqual({});
  });

  test('what is adjusted is counted', async () => {
    const { body } = await send(`${app.urls.admin}/metrics`, '', { method: 'GET' });
    for (const [reason, spans] of [
      ['no_start', 2],
      ['late_time', 2],
      ['unknown_enum', 1],
    ])
      expect(body.toString()).toContain(`hive_collector_adjusted_spans_total{reason="${reason}"} ${spans}`);
  });
});

describe('on a table with JSON columns', () => {
  let app: TestApp;

  beforeAll(async () => {
    const [createDatabase, createTable] = createStatements('default', 'otel_json');
    await clickhouse.command(createDatabase);
    await clickhouse.command(createTable.replaceAll(MAPS, 'JSON').replaceAll(/^ *INDEX idx_(res|span)_attr.*$/gm, ''));
    // Of this one, only the events' attributes.
    const [, withMaps] = createStatements('default', 'otel_json_events');
    await clickhouse.command(withMaps.replaceAll(`Array(${MAPS})`, 'Array(JSON)'));
  });

  test.each([
    ['small ones, on the main thread', {}],
    ['large ones, in worker threads', { TRANSCODE_INLINE_KB: '0' }],
  ])('text that is not UTF-8 is repaired, and takes no other span along: %s', async (_, environment) => {
    app = await startReady({ CLICKHOUSE_TABLE: 'otel_json', CLICKHOUSE_CREATE_SCHEMA: 'false', ...environment });
    await using _app = app;
    const bad = Buffer.from('a\xff', 'latin1');
    const attribute = (number: number) => messageField(number, [bytesField(1, bad), messageField(2, [bytesField(1, bad)])]);
    // Repaired, its key is the same as the other's, and a JSON column refuses a key that is given twice.
    const again = messageField(9, pair(Buffer.from('a\xfe', 'latin1'), stringField(1, 'last')));
    const span = messageField(2, [...IDS, START, attribute(9), again, messageField(11, [attribute(3)]), messageField(13, [attribute(4)])]);
    const body = messageField(1, [messageField(1, [attribute(1)]), messageField(2, [span, span])]);
    const all = await Promise.all(
      [body, ...Array.from({ length: 4 }, () => spanBytes(...IDS, START))].map((each) => post(app, each, 'otel_json')),
    );
    for (const { answer } of all) expect(answer.status).toBe(200);
    const counts = await Promise.all(all.map(async ({ rows }) => (await rows('1')).length));
    expect(counts).toEqual([2, 1, 1, 1, 1]);
    const [row] = await all[0].rows('ResourceAttributes AS r, SpanAttributes AS s, Events.Attributes AS e, Links.Attributes AS l');
    expect(row).toMatchObject({
      r: { 'a\ufffd': 'a\ufffd' },
      s: { 'a\ufffd': 'last' },
      e: [{ 'a\ufffd': 'a\ufffd' }],
      l: [{ 'a\ufffd': 'a\ufffd' }],
    });
  });

  test('columns that hold bytes keep them', async () => {
    await using mixed = await startReady({ CLICKHOUSE_TABLE: 'otel_json_events', CLICKHOUSE_CREATE_SCHEMA: 'false' });
    const bad = Buffer.from('a\xff', 'latin1');
    const attribute = (number: number) => messageField(number, [stringField(1, 'k'), messageField(2, [bytesField(1, bad)])]);
    const target = 'mixed';
    const body = spanBytes(...IDS, START, attribute(9), messageField(11, [attribute(3)]));
    const answer = await send(`${mixed.urls.otlp}/v1/traces`, body, { headers: { ...PROTOBUF_TYPE, 'x-hive-target-ref': target } });
    expect(answer.status).toBe(200);
    expect(await clickhouse.query("SELECT hex(SpanAttributes['k']) AS span, Events.Attributes AS events FROM otel_json_events")).toEqual([
      { span: '61FF', events: [{ k: 'a\ufffd' }] },
    ]);
  });
});

/** A KeyValue's fields. */
function pair(key: string | Buffer, ...value: Buffer[]): Buffer[] {
  return [bytesField(1, Buffer.from(key)), messageField(2, value)];
}

function encoded(type: protobuf.Type, message: object): Uint8Array {
  return type.encode(type.fromObject(message)).finish();
}

function rejectedOf(answer: Answer): number {
  if (answer.headers['content-type'] === 'application/json') return Number(successOf(answer).partialSuccess?.rejectedSpans ?? 0);
  const decoded = ExportTraceServiceResponse.toObject(ExportTraceServiceResponse.decode(answer.body), { longs: Number, defaults: true });
  return decoded.partialSuccess.rejectedSpans;
}

/** Real messages of the other signals, in what they have in common with spans and what not. */
function otherSignals(): [string, Uint8Array | object, string][] {
  const { logs, metrics } = otlpTypes();
  const logsOf = (...logRecords: object[]) =>
    encoded(logs, { resourceLogs: [{ resource: {}, scopeLogs: [{ scope: { name: 's' }, logRecords }] }] });
  const metricsOf = (...each: object[]) =>
    encoded(metrics, { resourceMetrics: [{ resource: {}, scopeMetrics: [{ scope: { name: 's' }, metrics: each }] }] });
  const point = { timeUnixNano: 1_763_000_000_000_000_000, asDouble: 1.5 };
  const histogramPoint = { timeUnixNano: 1_763_000_000_000_000_000, count: 1, sum: 2 };
  return [
    [
      'a log with everything',
      logsOf({
        timeUnixNano: 5,
        observedTimeUnixNano: 6,
        severityNumber: 9,
        severityText: 'INFO',
        body: { stringValue: 'hello' },
        attributes: [{ key: 'k', value: { stringValue: 'v' } }],
        flags: 1,
        traceId: Buffer.alloc(16, 7),
        spanId: Buffer.alloc(8, 7),
        eventName: 'e',
      }),
      'logs',
    ],
    ['logs of a body alone', logsOf({ body: { stringValue: 'hello' } }, { body: { stringValue: 'hello' } }), 'logs'],
    ['a log with a time', logsOf({ timeUnixNano: 5, body: { kvlistValue: { values: [] } } }), 'logs'],
    ['a log with a trace id that is no attribute', logsOf({ observedTimeUnixNano: 5, traceId: Buffer.alloc(16, 0xff) }), 'logs'],
    ['a gauge', metricsOf({ name: 'cpu', description: 'd', unit: '1', gauge: { dataPoints: [point] } }), 'metrics'],
    ['a gauge whose name is as long as a trace id', metricsOf({ name: 'http.client.time', gauge: { dataPoints: [point] } }), 'metrics'],
    [
      'a gauge whose name and description are as long as ids',
      metricsOf(
        { name: 'http.client.time', description: 'duration', gauge: { dataPoints: [point] } },
        { name: 'x', sum: { dataPoints: [point] } },
      ),
      'metrics',
    ],
    ['a sum', metricsOf({ name: 'requests', sum: { dataPoints: [point], aggregationTemporality: 2, isMonotonic: true } }), 'metrics'],
    [
      'a histogram',
      metricsOf({ name: 'http.client.time', histogram: { dataPoints: [histogramPoint], aggregationTemporality: 2 } }),
      'metrics',
    ],
    [
      'an exponential histogram',
      metricsOf({ name: 'http.client.time', exponentialHistogram: { dataPoints: [histogramPoint], aggregationTemporality: 2 } }),
      'metrics',
    ],
    ['a summary', metricsOf({ name: 'http.client.time', summary: { dataPoints: [histogramPoint] } }), 'metrics'],
    ['logs as JSON', { resourceLogs: [{ scopeLogs: [{ logRecords: [{ body: { stringValue: 'x' } }] }] }] }, '/v1/logs'],
    ['logs beside an empty list of spans', { resourceSpans: [], resource_logs: [{}] }, '/v1/logs'],
    ['metrics as JSON', { resourceMetrics: [{ scopeMetrics: [] }] }, '/v1/metrics'],
    ['profiles as JSON', { resourceProfiles: [], dictionary: {} }, 'profiles'],
    ["Jaeger's JSON", { data: [{ traceID: '1', spans: [{ traceID: '1', spanID: '2' }], processes: {} }] }, 'Jaeger'],
    ["a batch of Jaeger's", { process: { serviceName: 'a' }, spans: [{ traceIdLow: 1 }] }, 'Jaeger'],
    ["Zipkin's JSON", [{ traceId: '1', id: '2', name: 'get', timestamp: 1, duration: 2, localEndpoint: { serviceName: 'a' } }], 'Zipkin'],
    ['a part of a request', { scopeSpans: [{ spans: [] }] }, 'resourceSpans'],
  ];
}

/** ExportLogsServiceRequest and ExportMetricsServiceRequest, written after OTLP 1.9's .proto files. */
function otlpTypes(): { logs: protobuf.Type; metrics: protobuf.Type } {
  const root = protobuf.Root.fromJSON(
    JSON.parse(readFileSync(new URL('../fixtures/other-signals.json', import.meta.url), 'utf8')) as protobuf.INamespace,
  );
  return { logs: root.lookupType('ExportLogsServiceRequest'), metrics: root.lookupType('ExportMetricsServiceRequest') };
}
