import { expect, test } from 'vitest';
import { doubleText } from '../support/oracle/attribute-text.ts';
import { expectedRows, NOTHING_NESTED } from '../support/oracle/expected-rows.ts';
import { type AnyValue, encodeRequest, type OtlpRequest } from '../support/oracle/otlp-request.ts';

test('expects the rows worked out by hand, in the dialect hive', () => {
  expect(expectedRows(encodeRequest(REQUEST), 'target', 'hive')).toEqual([
    {
      ...COMMON,
      TraceId: '000102030405060708090a0b0c0d0eff',
      SpanId: '',
      ParentSpanId: '',
      SpanKind: 'SPAN_KIND_SERVER',
      StatusCode: 'STATUS_CODE_ERROR',
      ResourceAttributes: { 'service.name': 'second', 'hive.target_id': 'target', rank: '9007199254740993' },
      SpanAttributes: {
        'hive.target_id': 'target',
        twice: '1',
        yes: 'true',
        third: '0.3333333333333333',
        huge: '1000000000000000000000',
        bytes: 'fbff00',
        list: '["<a>",-9223372036854775808,0.5,-0,1e+21,"NaN","-Infinity",true,"fbff00",[]]',
        map: '{"b":"new\\u0001","a":{"&":"\u2028"}}',
        '': '',
      },
    },
    {
      ...BARE,
      SpanKind: 'SPAN_KIND_UNSPECIFIED',
      StatusCode: 'STATUS_CODE_UNSET',
      ResourceAttributes: { 'hive.target_id': 'target' },
      SpanAttributes: { 'hive.target_id': 'target' },
    },
  ]);
});

test('expects the rows worked out by hand, in the dialect otelcol', () => {
  expect(expectedRows(encodeRequest(REQUEST), 'target', 'otelcol')).toEqual([
    {
      ...COMMON,
      'Events.Attributes': [{ 'hive.target_id': 'theirs', none: '' }, {}],
      TraceId: '000102030405060708090a0b0c0d0eff',
      SpanId: '',
      ParentSpanId: '',
      SpanKind: 'Server',
      StatusCode: 'Error',
      ResourceAttributes: { 'service.name': 'second', 'hive.target_id': 'target', rank: '9007199254740993' },
      SpanAttributes: {
        'hive.target_id': 'target',
        twice: '',
        yes: 'true',
        third: '0.3333333333333333',
        huge: '1e+21',
        bytes: '+/8A',
        list: '["<a>",-9223372036854775808,0.5,-0,1e+21,"NaN","-Infinity",true,"+/8A",null,[]]',
        map: '{"a":{"&":"\\u2028"},"b":"new\\u0001","gone":null}',
        '': '',
        none: '',
      },
    },
    { ...BARE, SpanKind: '', StatusCode: '', ResourceAttributes: {}, SpanAttributes: { 'hive.target_id': 'target' } },
  ]);
});

test('stamps the target over what the client sent, also over a key without a value', () => {
  const theirs = { attributes: [{ key: 'hive.target_id', value: {} }, { key: 'hive.target_id' }] };
  const bytes = encodeRequest({ resourceSpans: [{ resource: theirs, scopeSpans: [{ spans: [{ ...theirs, events: [], links: [] }] }] }] });
  for (const dialect of ['hive', 'otelcol'] as const) {
    expect(expectedRows(bytes, 'ours', dialect)).toMatchObject([
      { ResourceAttributes: { 'hive.target_id': 'ours' }, SpanAttributes: { 'hive.target_id': 'ours' } },
    ]);
  }
});

test.each([
  [1, '1', '1'],
  [-0, '-0', '-0'],
  [0.1 + 0.2, '0.30000000000000004', '0.30000000000000004'],
  [1e20, '100000000000000000000', '100000000000000000000'],
  [1e21, '1000000000000000000000', '1e+21'],
  [-1.5e300, `-15${'0'.repeat(299)}`, '-1.5e+300'],
  [2 ** 90, '1237940039285380300000000000', '1.2379400392853803e+27'],
  [1e-6, '0.000001', '0.000001'],
  [1e-7, '0.0000001', '1e-7'],
  [-1.25e-9, '-0.00000000125', '-1.25e-9'],
  [5e-324, `0.${'0'.repeat(323)}5`, '5e-324'],
  [Number.NaN, 'NaN', 'NaN'],
  [Number.POSITIVE_INFINITY, 'inf', 'Infinity'],
  [Number.NEGATIVE_INFINITY, '-inf', '-Infinity'],
])('writes the double %d as %s for hive and as %s for otelcol', (value, hive, otelcol) => {
  expect(doubleText(value, 'hive')).toBe(hive);
  expect(doubleText(value, 'otelcol')).toBe(otelcol);
});

const MIXED_LIST: AnyValue[] = [
  { stringValue: '<a>' },
  { intValue: -(2n ** 63n) },
  { doubleValue: 0.5 },
  { doubleValue: -0 },
  { doubleValue: 1e21 },
  { doubleValue: Number.NaN },
  { doubleValue: Number.NEGATIVE_INFINITY },
  { boolValue: true },
  { bytesValue: Buffer.of(0xfb, 0xff, 0) },
  {},
  { arrayValue: { values: [] } },
];

const REQUEST: OtlpRequest = {
  resourceSpans: [
    {
      resource: {
        attributes: [
          { key: 'service.name', value: { stringValue: 'first' } },
          { key: 'hive.target_id', value: { stringValue: 'theirs' } },
          { key: 'rank', value: { intValue: 2n ** 53n + 1n } },
          { key: 'service.name', value: { stringValue: 'second' } },
        ],
      },
      scopeSpans: [
        {
          scope: { name: 'scope', version: '1', attributes: [{ key: 'ignored', value: { boolValue: true } }] },
          spans: [
            {
              traceId: Buffer.from('000102030405060708090a0b0c0d0eff', 'hex'),
              spanId: Buffer.alloc(8),
              traceState: 'a=b',
              name: 'name',
              kind: 2,
              startTimeUnixNano: 2n ** 63n - 10n,
              endTimeUnixNano: 2n ** 64n - 1n,
              attributes: [
                { key: 'hive.target_id', value: { stringValue: 'theirs' } },
                { key: 'twice', value: { intValue: 0n } },
                { key: 'twice', value: { intValue: 1n } },
                { key: 'twice', value: {} },
                { key: 'yes', value: { boolValue: true } },
                { key: 'third', value: { doubleValue: 1 / 3 } },
                { key: 'huge', value: { doubleValue: 1e21 } },
                { key: 'bytes', value: { bytesValue: Buffer.of(0xfb, 0xff, 0) } },
                { key: 'list', value: { arrayValue: { values: MIXED_LIST } } },
                {
                  key: 'map',
                  value: {
                    kvlistValue: {
                      values: [
                        { key: 'b', value: { stringValue: 'old' } },
                        { key: 'a', value: { kvlistValue: { values: [{ key: '&', value: { stringValue: '\u2028' } }] } } },
                        { key: 'gone' },
                        { key: 'b', value: { stringValue: 'new\u0001' } },
                      ],
                    },
                  },
                },
                { value: { stringValue: '' } },
                { key: 'none' },
              ],
              events: [
                {
                  timeUnixNano: 2n ** 63n,
                  name: 'event',
                  attributes: [{ key: 'hive.target_id', value: { stringValue: 'theirs' } }, { key: 'none' }],
                },
                { attributes: [] },
              ],
              links: [
                {
                  traceId: Buffer.alloc(16, 0xab),
                  spanId: Buffer.alloc(8, 0xcd),
                  traceState: 'c=d',
                  attributes: [{ key: 'k', value: { boolValue: false } }],
                },
              ],
              status: { code: 2, message: 'broken' },
            },
          ],
        },
      ],
    },
    {
      scopeSpans: [
        { spans: [{ kind: 6, startTimeUnixNano: 7n, endTimeUnixNano: 6n, attributes: [], events: [], links: [], status: { code: 3 } }] },
      ],
    },
  ],
};

/** What both dialects make of the first span. */
const COMMON = {
  Timestamp: '9223372036854775798',
  TraceState: 'a=b',
  SpanName: 'name',
  ServiceName: 'second',
  ScopeName: 'scope',
  ScopeVersion: '1',
  Duration: '9',
  StatusMessage: 'broken',
  'Events.Timestamp': ['9223372036854775807', '0'],
  'Events.Name': ['event', ''],
  'Events.Attributes': [{ 'hive.target_id': 'theirs' }, {}],
  'Links.TraceId': ['abababababababababababababababab'],
  'Links.SpanId': ['cdcdcdcdcdcdcdcd'],
  'Links.TraceState': ['c=d'],
  'Links.Attributes': [{ k: 'false' }],
};

/** What both dialects make of the second span: unknown codes, ends before it starts, nothing else set. */
const BARE = {
  Timestamp: '7',
  TraceId: '',
  SpanId: '',
  ParentSpanId: '',
  TraceState: '',
  SpanName: '',
  ServiceName: '',
  ScopeName: '',
  ScopeVersion: '',
  Duration: '0',
  StatusMessage: '',
  ...NOTHING_NESTED,
};
