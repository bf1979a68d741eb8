import { createServer } from 'node:http';
import { type Attributes, createTraceState, SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace-base';
import { expect, test } from 'vitest';
import { Any, ExportTraceServiceResponse, RetryInfo, RpcStatus } from '../../src/otlp/messages.ts';
import { decodeRequest, encodeRequest, type OtlpRequest } from '../support/oracle/otlp-request.ts';
import { parsedJson } from '../support/oracle/parsed-json.ts';

test('reads every field that the JavaScript SDK writes as Protobuf', async () => {
  expect(decodeRequest(await exported((url) => new ProtobufExporter({ url })))).toEqual(EXPORTED);
});

test('names the fields as the JavaScript SDK does in JSON', async () => {
  const body = await exported((url) => new JsonExporter({ url }));
  expect(parsedJson(body.toString())).toEqual(EXPORTED);
});

test('encodes the answers of OTLP/HTTP to the bytes of the specification', () => {
  const partial = ExportTraceServiceResponse.fromObject({ partialSuccess: { rejectedSpans: 3, errorMessage: 'bad' } });
  expect(hex(ExportTraceServiceResponse.encode(partial).finish())).toBe(spaceless('0a07 0803 1203626164'));
  expect(hex(ExportTraceServiceResponse.encode({}).finish())).toBe('');

  const retry = RetryInfo.encode(RetryInfo.fromObject({ retryDelay: { seconds: 5, nanos: 1 } })).finish();
  expect(hex(retry)).toBe(spaceless('0a04 0805 1001'));
  const detail = Any.fromObject({ typeUrl: 'a/b', value: retry });
  const status = RpcStatus.fromObject({ code: 14, message: 'later', details: [detail] });
  expect(hex(RpcStatus.encode(status).finish())).toBe(spaceless('080e 12056c61746572 1a0d 0a03612f62 12060a0408051001'));
});

test('keeps every bit of 64-bit values', () => {
  const request = {
    resourceSpans: [{ scopeSpans: [{ spans: [extremeSpan(2n ** 64n - 1n, -(2n ** 63n)), extremeSpan(2n ** 53n + 1n, 2n ** 63n - 1n)] }] }],
  };
  expect(decodeRequest(encodeRequest(request))).toEqual(request);
});

// AnyValue.array_value of one int_value, AnyValue.string_value
const [one, two, text] = ['2a040a021801', '2a040a021802', '0a0141'];
test.each([
  ['adds up a list that comes in pieces', one + two, { arrayValue: { values: [{ intValue: 1n }, { intValue: 2n }] } }],
  ['forgets a list that something else came after', one + text, { stringValue: 'A' }],
  ['begins a list anew after something else', one + text + two, { arrayValue: { values: [{ intValue: 2n }] } }],
])('%s', (_, anyValue, value) => {
  // 1 resource_spans { 2 scope_spans { 2 spans { 9 attributes { 2 value …
  const fields = ['12', '4a', '12', '12', '0a'];
  const bytes = fields.reduce((inner, tag) => tag + hex(Buffer.of(inner.length / 2)) + inner, anyValue);
  const [{ scopeSpans }] = decodeRequest(Buffer.from(bytes, 'hex')).resourceSpans;
  expect(scopeSpans[0].spans[0].attributes).toEqual([{ value }]);
});

/** Has one of the SDK's own exporters send SPAN, and returns the body it sent. */
async function exported(makeExporter: (url: string) => SpanExporter): Promise<Buffer> {
  const received = Promise.withResolvers<Buffer>();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request
      .on('data', (chunk: Buffer) => chunks.push(chunk))
      .on('end', () => {
        response.end();
        received.resolve(Buffer.concat(chunks));
      });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server listens on no port');
  const exporter = makeExporter(`http://127.0.0.1:${address.port}/v1/traces`);
  exporter.export([SPAN], ({ error }) => error !== undefined && received.reject(error));
  try {
    return await received.promise;
  } finally {
    await exporter.shutdown();
    server.close();
  }
}

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const ATTRIBUTES: Attributes = {
  text: 'é\u{1f41d}',
  yes: true,
  no: false,
  whole: -(2 ** 40),
  part: 0.25,
  list: ['a', 'b'],
  empty: [],
  undefined,
};
// Its exporters write more kinds than its types let through.
Object.assign(ATTRIBUTES, { bytes: Uint8Array.of(0xfb, 0xff, 0), map: { inner: [1.5, { deep: 'x' }] } });
const READ_ATTRIBUTES = [
  { key: 'text', value: { stringValue: 'é\u{1f41d}' } },
  { key: 'yes', value: { boolValue: true } },
  { key: 'no', value: { boolValue: false } },
  { key: 'whole', value: { intValue: -(2n ** 40n) } },
  { key: 'part', value: { doubleValue: 0.25 } },
  { key: 'list', value: { arrayValue: { values: [{ stringValue: 'a' }, { stringValue: 'b' }] } } },
  { key: 'empty', value: { arrayValue: { values: [] } } },
  { key: 'undefined', value: {} },
  { key: 'bytes', value: { bytesValue: Buffer.of(0xfb, 0xff, 0) } },
  {
    key: 'map',
    value: {
      kvlistValue: {
        values: [
          {
            key: 'inner',
            value: {
              arrayValue: { values: [{ doubleValue: 1.5 }, { kvlistValue: { values: [{ key: 'deep', value: { stringValue: 'x' } }] } }] },
            },
          },
        ],
      },
    },
  },
];

const SPAN: ReadableSpan = {
  name: 'GET /',
  kind: SpanKind.CONSUMER,
  spanContext: () => ({ traceId: TRACE_ID, spanId: 'b7ad6b7169203331', traceFlags: 1, traceState: createTraceState('a=b') }),
  parentSpanContext: { traceId: TRACE_ID, spanId: '00f067aa0ba902b7', traceFlags: 1, isRemote: true },
  startTime: [1_763_000_000, 1],
  endTime: [1_763_000_001, 999_999_999],
  duration: [1, 999_999_998],
  ended: true,
  status: { code: SpanStatusCode.ERROR, message: 'broken' },
  attributes: ATTRIBUTES,
  links: [
    {
      context: {
        traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
        spanId: '53995c3f42cd8ad8',
        traceFlags: 0,
        traceState: createTraceState('c=d'),
      },
      attributes: { linked: true },
      droppedAttributesCount: 4,
    },
  ],
  events: [{ name: 'exception', time: [1_763_000_000, 7], attributes: { 'exception.type': 'Error' }, droppedAttributesCount: 3 }],
  resource: resourceFromAttributes({ 'service.name': 'shop' }, { schemaUrl: 'https://schema.example/1' }),
  instrumentationScope: { name: 'library', version: '1.2.3', schemaUrl: 'https://schema.example/2' },
  droppedAttributesCount: 5,
  droppedEventsCount: 6,
  droppedLinksCount: 7,
};

const EXPORTED: OtlpRequest = {
  resourceSpans: [
    {
      resource: { attributes: [{ key: 'service.name', value: { stringValue: 'shop' } }] },
      schemaUrl: 'https://schema.example/1',
      scopeSpans: [
        {
          scope: { name: 'library', version: '1.2.3', attributes: [] },
          schemaUrl: 'https://schema.example/2',
          spans: [
            {
              traceId: Buffer.from(TRACE_ID, 'hex'),
              spanId: Buffer.from('b7ad6b7169203331', 'hex'),
              parentSpanId: Buffer.from('00f067aa0ba902b7', 'hex'),
              traceState: 'a=b',
              name: 'GET /',
              kind: 5,
              startTimeUnixNano: 1_763_000_000_000_000_001n,
              endTimeUnixNano: 1_763_000_001_999_999_999n,
              attributes: READ_ATTRIBUTES,
              droppedAttributesCount: 5,
              events: [
                {
                  timeUnixNano: 1_763_000_000_000_000_007n,
                  name: 'exception',
                  attributes: [{ key: 'exception.type', value: { stringValue: 'Error' } }],
                  droppedAttributesCount: 3,
                },
              ],
              droppedEventsCount: 6,
              links: [
                {
                  traceId: Buffer.from('4bf92f3577b34da6a3ce929d0e0e4736', 'hex'),
                  spanId: Buffer.from('53995c3f42cd8ad8', 'hex'),
                  traceState: 'c=d',
                  attributes: [{ key: 'linked', value: { boolValue: true } }],
                  droppedAttributesCount: 4,
                  flags: 0x100,
                },
              ],
              droppedLinksCount: 7,
              status: { code: 2, message: 'broken' },
              flags: 0x301,
            },
          ],
        },
      ],
    },
  ],
};

function extremeSpan(time: bigint, intValue: bigint) {
  return {
    startTimeUnixNano: time,
    attributes: [{ key: 'extreme', value: { intValue } }],
    events: [{ timeUnixNano: time, attributes: [] }],
    links: [],
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Bytes are easier to read with their fields apart. */
function spaceless(digits: string): string {
  return digits.replaceAll(' ', '');
}
