import type { AnyValue, KeyValue, OtlpRequest, Span } from '../oracle/otlp-request.ts';

/** In Unix nanoseconds: one more than whole seconds, so that truncated times show. */
const START = 1_763_000_000_000_000_001n;

/** Every kind of attribute value, by the name of the attribute. */
const values: Record<string, AnyValue | undefined> = {
  'text': { stringValue: 'plain' },
  'text.empty': { stringValue: '' },
  'text.html': { stringValue: '<b>&"\\\u2028' },
  'bool.true': { boolValue: true },
  'bool.false': { boolValue: false },
  'int': { intValue: 42n },
  'int.smallest': { intValue: -(2n ** 63n) },
  'int.largest': { intValue: 2n ** 63n - 1n },
  'double': { doubleValue: 0.1 },
  'double.whole': { doubleValue: 3 },
  'double.negative zero': { doubleValue: -0 },
  'double.1e20': { doubleValue: 1e20 },
  'double.1e21': { doubleValue: 1e21 },
  'double.1e-6': { doubleValue: 1e-6 },
  'double.1e-7': { doubleValue: 1.5e-7 },
  'double.1e-300': { doubleValue: 1e-300 },
  'double.NaN': { doubleValue: NaN },
  'double.infinity': { doubleValue: Infinity },
  'double.-infinity': { doubleValue: -Infinity },
  'bytes': { bytesValue: Buffer.from([0xff, 0, 0x7f, 0x3e]) },
  'bytes.empty': { bytesValue: Buffer.alloc(0) },
  'none': undefined,
  'none.inside': {},
  'array': array(
    { stringValue: 'a' },
    { intValue: 2n ** 53n + 1n },
    { doubleValue: 1e21 },
    { doubleValue: 1 },
    { boolValue: true },
    { bytesValue: Buffer.from('hi') },
    {},
  ),
  'array.empty': array(),
  'array.html': array({ stringValue: '<a href="x">&</a>' }, { stringValue: 'line\u2028and\u2029\n\t\b\f\u0001\u007f' }),
  'array.not a number': array({ doubleValue: NaN }, { doubleValue: -Infinity }),
  'array.numbers': array({ doubleValue: 1.5e-7 }, { doubleValue: -0 }, { doubleValue: 1e20 }, { doubleValue: 1e-6 }),
  'array.nested': array(array(), array({ intValue: 1n }), kvlist({ k: {} })),
  'kvlist': kvlist({
    zebra: { intValue: 1n },
    ant: { stringValue: '<' },
    Bee: { doubleValue: 0.5 },
    é: { boolValue: false },
    '': { stringValue: '' },
  }),
  'kvlist.empty': kvlist({}),
  'kvlist.nested': kvlist({ b: kvlist({ d: array({ stringValue: 'x' }), c: {} }), a: { bytesValue: Buffer.from([1]) } }),
};

/**
 * A request with every kind of value that is stored. clickhouseexporter-rows.json has the rows that the OpenTelemetry Collector's
 * clickhouseexporter writes for it.
 */
export const recordedRequest: OtlpRequest = {
  resourceSpans: [
    {
      resource: { attributes: [...keyValues(values), { key: 'service.name', value: { stringValue: 'gateway' } }] },
      scopeSpans: [
        {
          scope: { name: 'scope', version: '1.2.3', attributes: [{ key: 'of.the.scope', value: { stringValue: 'not stored' } }] },
          spans: [
            span(1, {
              name: 'everything',
              kind: 2,
              parentSpanId: Buffer.alloc(8, 0xab),
              traceState: 'a=1,b=2',
              attributes: keyValues(values),
              status: { code: 2, message: 'it broke' },
            }),
            span(2, {
              name: 'nested',
              kind: 3,
              status: { code: 1 },
              events: [
                { timeUnixNano: START + 5n, name: 'exception', attributes: keyValues(values) },
                { name: '', attributes: [] },
              ],
              links: [
                { traceId: Buffer.alloc(16, 0xcd), spanId: Buffer.alloc(8, 0xef), traceState: 'c=3', attributes: keyValues(values) },
                { traceId: Buffer.alloc(16), spanId: Buffer.alloc(8), attributes: [] },
              ],
            }),
          ],
        },
      ],
    },
    {
      resource: { attributes: [{ key: 'service.name', value: { intValue: 7n } }] },
      scopeSpans: [
        {
          spans: [
            ...[0, 1, 4, 5, 6, -1].map((kind) => span(10 + kind, { name: `kind ${kind}`, kind })),
            ...[0, 3, -1].map((code) => span(20 + code, { name: `status ${code}`, status: { code } })),
            span(30, { name: 'zero parent', parentSpanId: Buffer.alloc(8) }),
            span(31, { name: 'ends before it starts', endTimeUnixNano: START - 1n }),
          ],
        },
      ],
    },
  ],
};

function span(id: number, fields: Partial<Span>): Span {
  const spanId = Buffer.alloc(8);
  spanId[7] = id;
  return {
    traceId: Buffer.alloc(16, 0x11),
    spanId,
    startTimeUnixNano: START,
    endTimeUnixNano: START + 1_500_000_000n,
    attributes: [],
    events: [],
    links: [],
    ...fields,
  };
}

function keyValues(members: Record<string, AnyValue | undefined>): KeyValue[] {
  return Object.entries(members).map(([key, value]) => ({ key, value }));
}

function array(...members: AnyValue[]): AnyValue {
  return { arrayValue: { values: members } };
}

function kvlist(members: Record<string, AnyValue>): AnyValue {
  return { kvlistValue: { values: keyValues(members) } };
}
