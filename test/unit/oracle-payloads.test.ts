import { describe, expect, test } from 'vitest';
import { gatewayProtobuf, hiveGatewayBatch } from '../support/generators/payloads.ts';
import { decodeRequest, type OtlpRequest, type Span } from '../support/oracle/otlp-request.ts';
import { parsedJson } from '../support/oracle/parsed-json.ts';

const START_MS = Date.UTC(2025, 10, 22);

const makers = [
  {
    name: 'the JSON payload',
    make: hiveGatewayBatch,
    read: (body: Buffer) => parsedJson(body.toString()),
    bytesPerSpan: 857,
    attributes: 19,
  },
  { name: 'the Protobuf payload', make: gatewayProtobuf, read: decodeRequest, bytesPerSpan: 400, attributes: 14 },
];

describe.each(makers)('$name', ({ make, read, bytesPerSpan, attributes }) => {
  test.each([1, 7, 11, 420, 517])('holds %i spans, of the traces it names', (count) => {
    const { body, traceIds } = make({ spans: count, seed: 1 });
    const request = read(body);
    expect(request.resourceSpans.map(({ resource }) => resource?.attributes.length)).toEqual([attributes]);
    const ids = spansOf(request).map(({ traceId }) => hex(traceId));
    expect(ids).toHaveLength(count);
    expect([...new Set(ids)]).toEqual(traceIds);
  });

  test('has spans as long as real ones', () => {
    const { body } = make({ spans: 512, seed: 2 });
    expect(Math.abs(body.length / 512 / bytesPerSpan - 1)).toBeLessThan(0.03);
  });

  test('is the same for the same seed and start', () => {
    expect(make({ spans: 40, seed: 3, startMs: START_MS })).toEqual(make({ spans: 40, seed: 3, startMs: START_MS }));
  });

  test('shares no trace with the payload of another seed', () => {
    const traceIds = Array.from({ length: 500 }, (_, seed) => make({ spans: 14, seed }).traceIds).flat();
    expect(new Set(traceIds).size).toBe(1000);
  });
});

test('the JSON payload has the values that trip other collectors', () => {
  const text = hiveGatewayBatch({ spans: 420, seed: 4 }).body.toString();
  expect(text).toContain('{"key":"hive.graphql.error.codes","value":{}}');
  expect(text).toContain('"name":"exception"');
  expect(text).toContain('{"key":"hive.gateway.operation.subgraph.names","value":{"arrayValue":');
  expect(text).toContain('"status":{"code":2,"message":"Unexpected error."}');
  expect(text).toMatch(/"startTimeUnixNano":"\d{19}","endTimeUnixNano":"\d{19}"/);
});

test('the JSON payload has the root span of a trace last, and every other one below a span of its own trace', () => {
  const spans = spansOf(parsedJson(hiveGatewayBatch({ spans: 7, seed: 5 }).body.toString()));
  const spanIds = new Set(spans.map(({ spanId }) => hex(spanId)));
  expect(spanIds.size).toBe(7);
  expect(spans.map(({ parentSpanId }) => parentSpanId !== undefined && spanIds.has(hex(parentSpanId)))).toEqual([
    ...Array(6).fill(true),
    false,
  ]);
  expect(spans[6].parentSpanId).toBeUndefined();
});

function spansOf(request: OtlpRequest): Span[] {
  return request.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
}

function hex(id: Buffer | undefined): string {
  return id?.toString('hex') ?? '';
}
