import {
  type Attributes,
  type AttributeValue,
  createTraceState,
  type HrTime,
  type Link,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
} from '@opentelemetry/api';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  type ReadableSpan,
  SimpleSpanProcessor,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { JSON_TYPE, successOf } from '../support/clients/otlp-client.ts';
import { hiveGatewayBatch } from '../support/generators/payloads.ts';
import { type ExpectedRow, expectedRows, NOTHING_NESTED } from '../support/oracle/expected-rows.ts';
import { encodeRequest } from '../support/oracle/otlp-request.ts';
import { parsedJson } from '../support/oracle/parsed-json.ts';
import { inOrder, storedRows } from '../support/oracle/stored-rows.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector } from '../support/servers/collector.ts';

/*
 * The OpenTelemetry SDK for JavaScript sends, the built program stores. What the rows have to be is written from what
 * the SDK was given.
 */

const TARGET = 'the-guild/hive/production';
const EXPORTERS = [
  {
    name: 'exporter-trace-otlp-proto',
    Exporter: ProtobufExporter,
    traceId: 'c0000000000000000000000000000001',
    notFinite: { nan: 'NaN', infinite: 'inf' },
  },
  // JSON has no such numbers: the exporter writes null.
  { name: 'exporter-trace-otlp-http', Exporter: JsonExporter, traceId: 'c0000000000000000000000000000002', notFinite: {} },
];

/** Every kind of value: what the SDK is given, and the text it is stored as. */
const VALUES: Readonly<Record<string, readonly [given: AttributeValue, stored: string]>> = {
  text: ['plain', 'plain'],
  empty: ['', ''],
  quoted: ['say "hi" \\ and\nbye\t\u0000\u001f', 'say "hi" \\ and\nbye\t\u0000\u001f'],
  foreign: ['grüße, 你好, 👩‍🚀', 'grüße, 你好, 👩‍🚀'],
  long: ['long '.repeat(20_000), 'long '.repeat(20_000)],
  yes: [true, 'true'],
  no: [false, 'false'],
  zero: [0, '0'],
  integer: [42, '42'],
  negative: [-7, '-7'],
  largest: [Number.MAX_SAFE_INTEGER, '9007199254740991'],
  smallest: [Number.MIN_SAFE_INTEGER, '-9007199254740991'],
  double: [0.1, '0.1'],
  'negative double': [-1234.5678, '-1234.5678'],
  'small double': [1.5e-7, '0.00000015'],
  texts: [['a', '', '"c"'], '["a","","\\"c\\""]'],
  integers: [[1, -2, 3], '[1,-2,3]'],
  doubles: [[0.5, 1e-7], '[0.5,1e-7]'],
  booleans: [[true, false], '[true,false]'],
  nothing: [[], '[]'],
  gaps: [['a', null, undefined, 'd'], '["a","d"]'],
};

/** Values that OTLP has and today's SDK lets through only on their way to the exporter. */
const FURTHER_VALUES: Readonly<Record<string, readonly [given: unknown, stored: string | undefined]>> = {
  bytes: [Uint8Array.of(0, 1, 254, 255), '0001feff'],
  object: [{ a: 1, b: { c: ['x', 2.5, null] }, 'd.e': true }, '{"a":1,"b":{"c":["x",2.5]},"d.e":true}'],
  nested: [[[1, 'two'], [], { three: Uint8Array.of(3) }], '[[1,"two"],[],{"three":"03"}]'],
  'empty object': [{}, '{}'],
  undefined: [undefined, undefined],
  null: [null, undefined],
};

let clickhouse: TestClickHouse;
let collector: Collector;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  collector = await startCollector({ clickhouse });
});
afterAll(async () => {
  await collector[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});

describe.each(EXPORTERS)('what the SDK sends with $name', ({ Exporter, traceId, notFinite }) => {
  /** A provider whose spans go to the collector. */
  function provider(
    processorOf: (exporter: InstanceType<typeof Exporter>) => SpanProcessor,
    ...before: SpanProcessor[]
  ): BasicTracerProvider {
    const exporter = new Exporter({ url: `${collector.url}/v1/traces`, headers: { 'X-Hive-Target-Ref': TARGET } });
    return new BasicTracerProvider({ resource: resourceFromAttributes(RESOURCE), spanProcessors: [...before, processorOf(exporter)] });
  }
  const batched = (exporter: InstanceType<typeof Exporter>) => new BatchSpanProcessor(exporter);

  test('is stored with every value of every kind', async () => {
    const tracer = provider(batched, new AddFurtherValues());
    const span = tracer
      .getTracer('values', '1.2.3')
      .startSpan('all of them', { startTime: at(0), attributes: { ...given(VALUES), nan: NaN, infinite: Infinity } });
    span.addEvent('an event', given(VALUES), at(1));
    span.addLink({ context: REMOTE, attributes: given(VALUES) });
    span.end(at(5));
    await tracer.shutdown();

    const [row, ...others] = await rowsOf(span.spanContext().traceId);
    expect(others).toEqual([]);
    expect(row).toEqual({
      ...blank(span.spanContext(), { start: at(0), end: at(5) }),
      SpanName: 'all of them',
      ScopeName: 'values',
      ScopeVersion: '1.2.3',
      SpanAttributes: { ...stored(VALUES), ...stored(FURTHER_VALUES), ...notFinite, 'hive.target_id': TARGET },
      'Events.Timestamp': [nanoseconds(at(1))],
      'Events.Name': ['an event'],
      'Events.Attributes': [stored(VALUES)],
      'Links.TraceId': [REMOTE.traceId],
      'Links.SpanId': [REMOTE.spanId],
      'Links.TraceState': ['vendor=value,other=1'],
      'Links.Attributes': [stored(VALUES)],
    });
  });

  test('keeps kinds, statuses, trace states, and who is whose parent', async () => {
    const tracer = provider(batched);
    const remote = { ...REMOTE, traceId };
    const parentContext = trace.setSpanContext(ROOT_CONTEXT, remote);
    const shapes = [
      { kind: SpanKind.INTERNAL, stored: 'SPAN_KIND_INTERNAL', status: { code: SpanStatusCode.UNSET }, StatusCode: 'STATUS_CODE_UNSET' },
      { kind: SpanKind.SERVER, stored: 'SPAN_KIND_SERVER', status: { code: SpanStatusCode.OK }, StatusCode: 'STATUS_CODE_OK' },
      {
        kind: SpanKind.CLIENT,
        stored: 'SPAN_KIND_CLIENT',
        status: { code: SpanStatusCode.ERROR, message: 'it "broke"' },
        StatusCode: 'STATUS_CODE_ERROR',
      },
      { kind: SpanKind.PRODUCER, stored: 'SPAN_KIND_PRODUCER', status: { code: SpanStatusCode.ERROR }, StatusCode: 'STATUS_CODE_ERROR' },
      { kind: SpanKind.CONSUMER, stored: 'SPAN_KIND_CONSUMER', status: { code: SpanStatusCode.UNSET }, StatusCode: 'STATUS_CODE_UNSET' },
    ];
    const expected: ExpectedRow[] = [];
    let context = parentContext;
    let parentSpanId = remote.spanId;
    for (const [index, { kind, stored: SpanKindText, status, StatusCode }] of shapes.entries()) {
      // Two scopes, in turns: one request with several ScopeSpans.
      const scope = `scope ${index % 2}`;
      const span = tracer.getTracer(scope).startSpan(`span ${index}`, { kind, startTime: at(index) }, context);
      span.setStatus(status);
      span.end(at(index, index));
      expected.push({
        ...blank(span.spanContext(), { start: at(index), end: at(index, index) }),
        SpanName: `span ${index}`,
        SpanKind: SpanKindText,
        StatusCode,
        StatusMessage: status.message ?? '',
        ParentSpanId: parentSpanId,
        TraceState: 'vendor=value,other=1',
        ScopeName: scope,
      });
      context = trace.setSpan(context, span);
      parentSpanId = span.spanContext().spanId;
    }
    await tracer.shutdown();

    expect(await rowsOf(traceId)).toEqual(inOrder(expected));
  });

  test('keeps exceptions as events, in their order, and links', async () => {
    const tracer = provider((exporter) => new SimpleSpanProcessor(exporter));
    const links: Link[] = [
      { context: REMOTE },
      { context: { ...REMOTE, traceState: undefined, spanId: 'ffffffffffffffff' }, attributes: { n: 1 } },
    ];
    const span = tracer.getTracer('links').startSpan('failing', { startTime: at(0), links });
    const error = new TypeError('no such thing');
    span.addEvent('before', at(1));
    span.recordException(error, at(2));
    span.addEvent('after', { reason: 'given up' }, at(3));
    span.end(at(4));
    await tracer.shutdown();

    expect(await rowsOf(span.spanContext().traceId)).toEqual([
      {
        ...blank(span.spanContext(), { start: at(0), end: at(4) }),
        SpanName: 'failing',
        ScopeName: 'links',
        'Events.Timestamp': [at(1), at(2), at(3)].map(nanoseconds),
        'Events.Name': ['before', 'exception', 'after'],
        'Events.Attributes': [
          {},
          { 'exception.type': 'TypeError', 'exception.message': 'no such thing', 'exception.stacktrace': error.stack },
          { reason: 'given up' },
        ],
        'Links.TraceId': [REMOTE.traceId, REMOTE.traceId],
        'Links.SpanId': [REMOTE.spanId, 'ffffffffffffffff'],
        'Links.TraceState': ['vendor=value,other=1', ''],
        'Links.Attributes': [{}, { n: '1' }],
      },
    ]);
  });

  test('is stored whole when it takes many batches', async () => {
    const tracer = provider((exporter) => new BatchSpanProcessor(exporter, { maxExportBatchSize: 100, maxQueueSize: 2048 }));
    const traceIds = Array.from({ length: 1_234 }, (_, index) => {
      const span = tracer.getTracer('many').startSpan(`span ${index}`, { attributes: { index } });
      span.end();
      return span.spanContext().traceId;
    });
    await tracer.shutdown();

    const rows = await storedRows(clickhouse, traceIds);
    expect(rows).toHaveLength(1_234);
    expect(new Set(rows.map(({ TraceId, SpanName, SpanAttributes }) => `${TraceId} ${SpanName} ${SpanAttributes.index}`))).toEqual(
      new Set(traceIds.map((id, index) => `${id} span ${index} ${index}`)),
    );
  });
});

describe("Hive Gateway's batch", () => {
  test('of 512 spans in JSON, in chunks and without a length, is stored whole', async () => {
    const { body, traceIds } = hiveGatewayBatch({ spans: 512, seed: 1 });
    const pieces: Buffer[] = [];
    for (let from = 0; from < body.length; from += 65_536) pieces.push(body.subarray(from, from + 65_536));

    const answer = await collector.send(pieces, { ...JSON_TYPE, 'user-agent': 'OTel-OTLP-Exporter-JavaScript/0.223.1' });
    const rows = await storedRows(clickhouse, traceIds);

    expect(answer.status).toBe(200);
    expect(successOf(answer)).toEqual({});
    expect(rows).toHaveLength(512);
    expect(rows).toEqual(inOrder(expectedRows(encodeRequest(parsedJson(body.toString())), 'target-1', 'hive')));
    // What the gateway sends as {} is left out, and costs nothing else.
    expect(body.toString()).toContain('{"key":"hive.graphql.error.codes","value":{}}');
    expect(
      rows
        .filter(({ SpanName }) => SpanName.startsWith('graphql.operation'))
        .map(({ SpanAttributes }) => SpanAttributes['hive.graphql.error.codes']),
    ).toContain(undefined);
  });
});

const RESOURCE = {
  'service.name': 'a service',
  'process.pid': 7,
  'process.command_args': ['node', 'main.js'],
  'hive.target_id': 'somebody else',
};
const STORED_RESOURCE = {
  'service.name': 'a service',
  'process.pid': '7',
  'process.command_args': '["node","main.js"]',
  'hive.target_id': TARGET,
};

const REMOTE = {
  traceId: 'a0000000000000000000000000000001',
  spanId: 'b000000000000002',
  traceFlags: TraceFlags.SAMPLED,
  isRemote: true,
  traceState: createTraceState('vendor=value,other=1'),
};

const START_SECONDS = Math.floor(Date.now() / 1000);

/** A moment with all nine digits. */
function at(seconds: number, nanos = 0): HrTime {
  return [START_SECONDS + seconds, 123_456_789 + nanos];
}

function nanoseconds([seconds, nanos]: HrTime): string {
  return String(BigInt(seconds) * 1_000_000_000n + BigInt(nanos));
}

/** The row of a span of which nothing is known but who it is and when it was. */
function blank({ traceId, spanId }: { traceId: string; spanId: string }, { start, end }: { start: HrTime; end: HrTime }): ExpectedRow {
  return {
    Timestamp: nanoseconds(start),
    TraceId: traceId,
    SpanId: spanId,
    ParentSpanId: '',
    TraceState: '',
    SpanName: '',
    SpanKind: 'SPAN_KIND_INTERNAL',
    ServiceName: 'a service',
    ResourceAttributes: STORED_RESOURCE,
    ScopeName: '',
    ScopeVersion: '',
    SpanAttributes: { 'hive.target_id': TARGET },
    Duration: String(BigInt(nanoseconds(end)) - BigInt(nanoseconds(start))),
    StatusCode: 'STATUS_CODE_UNSET',
    StatusMessage: '',
    ...NOTHING_NESTED,
  };
}

function rowsOf(traceId: string): Promise<ExpectedRow[]> {
  return storedRows(clickhouse, [traceId]);
}

function given(values: typeof VALUES): Attributes {
  return Object.fromEntries(Object.entries(values).map(([key, [value]]) => [key, value]));
}

function stored(values: Readonly<Record<string, readonly [unknown, string | undefined]>>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).flatMap(([key, [, text]]) => (text === undefined ? [] : [[key, text]])));
}

/** Puts values on ended spans that the SDK's own methods refuse and its exporters know. */
class AddFurtherValues implements SpanProcessor {
  onStart(): void {}

  onEnd({ attributes }: ReadableSpan): void {
    for (const [key, [value]] of Object.entries(FURTHER_VALUES)) Reflect.set(attributes, key, value);
  }

  async forceFlush(): Promise<void> {}

  async shutdown(): Promise<void> {}
}
