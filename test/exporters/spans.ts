import type { AnyValue, KeyValue, OtlpRequest, Span } from '../support/oracle/otlp-request.ts';

/*
 * The spans that every exporter sends: a few with everything that a span can have, and plain ones enough for several
 * batches. What they have to become is test/support/oracle/expected-rows.ts' to say.
 */

/** A full batch of the SDKs, and more. */
const PLAIN_SPANS = 1_000;

export const NOT_FINITE = ['nan', 'infinite', 'minus infinite'];
/** Integers that a double can't hold. */
export const BEYOND_DOUBLES = ['largest integer', 'smallest integer'];

/** Neither text, number or boolean, nor a list of one of them. */
export const BEYOND_SIMPLE = ['bytes', 'no bytes', 'mixed', 'object', 'empty object'];

const VALUES: Readonly<Record<string, AnyValue>> = {
  text: { stringValue: 'plain' },
  'empty text': { stringValue: '' },
  quoted: { stringValue: 'say "hi" \\ and\nbye\t\u001f' },
  foreign: { stringValue: 'grüße, 你好, 👩‍🚀' },
  long: { stringValue: 'long '.repeat(5_000) },
  yes: { boolValue: true },
  no: { boolValue: false },
  zero: { intValue: 0n },
  integer: { intValue: 42n },
  'largest safe integer': { intValue: 2n ** 53n - 1n },
  'smallest safe integer': { intValue: 1n - 2n ** 53n },
  'largest integer': { intValue: 2n ** 63n - 1n },
  'smallest integer': { intValue: -(2n ** 63n) },
  double: { doubleValue: 0.1 },
  'negative double': { doubleValue: -1234.5678 },
  'small double': { doubleValue: 1.5e-7 },
  'large double': { doubleValue: 1e21 },
  nan: { doubleValue: Number.NaN },
  infinite: { doubleValue: Number.POSITIVE_INFINITY },
  'minus infinite': { doubleValue: Number.NEGATIVE_INFINITY },
  bytes: { bytesValue: Buffer.of(0, 1, 254, 255) },
  'no bytes': { bytesValue: Buffer.alloc(0) },
  texts: list({ stringValue: 'a' }, { stringValue: '' }, { stringValue: '"c"' }),
  integers: list({ intValue: 1n }, { intValue: -2n }),
  doubles: list({ doubleValue: 0.5 }, { doubleValue: 1e-7 }),
  booleans: list({ boolValue: true }, { boolValue: false }),
  mixed: list({ intValue: 1n }, { stringValue: 'two' }, { doubleValue: 2.5 }, { bytesValue: Buffer.of(3) }),
  'empty list': list(),
  object: object({ a: { intValue: 1n }, b: object({ c: list({ stringValue: 'x' }, object({ d: { boolValue: true } }), {}) }) }),
  'empty object': object({}),
  'no value': {},
};

/** `startSeconds` is the Unix time of the first. */
export function everySpan(startSeconds: number): OtlpRequest {
  const at = (seconds: number) => BigInt(startSeconds + seconds) * 1_000_000_000n + 123_456_789n;
  const traceId = Buffer.from('e0000000000000000000000000000001', 'hex');
  const remote = { traceId: Buffer.from('a0000000000000000000000000000001', 'hex'), spanId: spanId(0xb2) };
  const whole: Span = {
    ...blank('all of it', traceId, 1),
    parentSpanId: remote.spanId,
    traceState: 'vendor=value,other=1',
    kind: 2,
    startTimeUnixNano: at(0),
    endTimeUnixNano: at(5),
    attributes: keyValues(VALUES),
    events: [
      { name: 'an event', timeUnixNano: at(1), attributes: keyValues(VALUES) },
      { name: 'another', timeUnixNano: at(2), attributes: [] },
    ],
    links: [
      { ...remote, traceState: 'linked=yes', attributes: keyValues(VALUES) },
      { traceId, spanId: spanId(3), attributes: [] },
    ],
    status: { code: 2, message: 'it "broke"' },
  };
  const shapes = [1, 2, 3, 4, 5].map((kind, index): Span => {
    const span = blank(`kind ${kind}`, traceId, 10 + index);
    return Object.assign(span, {
      parentSpanId: spanId(1),
      kind,
      startTimeUnixNano: at(index),
      endTimeUnixNano: at(index) + BigInt(index),
      status: { code: index % 3 },
    });
  });
  const plain = Array.from({ length: PLAIN_SPANS }, (_, index): Span => ({
    ...blank(`span ${index}`, Buffer.from(index.toString(16).padStart(32, 'c'), 'hex'), 100 + index),
    kind: 1,
    startTimeUnixNano: at(index % 60),
    endTimeUnixNano: at(index % 60) + BigInt(index),
    attributes: keyValues({ index: { intValue: BigInt(index) }, ratio: { doubleValue: index / 7 } }),
    status: { code: 0 },
  }));
  return {
    resourceSpans: [
      {
        resource: {
          attributes: keyValues({
            'service.name': { stringValue: 'a service' },
            'process.pid': { intValue: 7n },
            args: list({ stringValue: 'a' }, { stringValue: 'b' }),
          }),
        },
        scopeSpans: [
          { scope: { name: 'a scope', version: '1.2.3', attributes: [] }, spans: [whole] },
          { scope: { name: 'another scope', attributes: [] }, spans: shapes },
        ],
      },
      {
        resource: { attributes: keyValues({ 'service.name': { stringValue: 'another service' } }) },
        scopeSpans: [{ scope: { name: 'a scope', version: '1.2.3', attributes: [] }, spans: plain }],
      },
    ],
  };
}

function blank(name: string, traceId: Buffer, number: number): Span {
  return { name, traceId, spanId: spanId(number), attributes: [], events: [], links: [] };
}

function spanId(number: number): Buffer {
  return Buffer.from(number.toString(16).padStart(16, 'f'), 'hex');
}

function keyValues(values: Readonly<Record<string, AnyValue>>): KeyValue[] {
  return Object.entries(values).map(([key, value]) => ({ key, value }));
}

function list(...values: AnyValue[]): AnyValue {
  return { arrayValue: { values } };
}

function object(values: Readonly<Record<string, AnyValue>>): AnyValue {
  return { kvlistValue: { values: keyValues(values) } };
}
