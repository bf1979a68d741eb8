import { zstdDecompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { MalformedRequest } from '../../src/transcode/bytes/malformed-request.ts';

const TRACE_ID = '0123456789abcdef0123456789abcdef';

describe.each(['hive', 'otelcol'] as const)('JSON in the dialect %s', (dialect) => {
  const block = (json: string) => blockOf(json, dialect);

  describe('with members given twice is read as JSON.parse reads it: the last one is the one', () => {
    test.each([
      [
        'the lists of resources',
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"}]}]}],' +
          '"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"b"},{"name":"c"}]}]}]}',
      ],
      [
        'the resource',
        request(
          '"spans":[{"name":"a"}]',
          '"resource":{"attributes":[{"key":"a","value":{"intValue":1}}]},' +
            '"resource":{"attributes":[{"key":"b","value":{"intValue":12345678901234567890}}]},',
        ),
      ],
      ['the lists of spans', request('"spans":[{"name":"a"}],"spans":[{"name":"b"},{"name":"c"}]')],
      ['the lists of spans, the last one null', request('"spans":[{"name":"a"}],"spans":null')],
      [
        'the lists of attributes',
        span('"attributes":[{"key":"a","value":{"doubleValue":1e999}}],"attributes":[{"key":"b","value":{"doubleValue":1e999}}]'),
      ],
      [
        'the lists of attributes, with other escapes',
        span('"attributes":[],"\\u0061ttributes":[{"key":"b","value":{"intValue":9007199254740993}}]'),
      ],
      ['the lists of events', span('"events":[{"name":"a"}],"events":[{"name":"b","attributes":[{"key":"a"}],"attributes":[]}]')],
      ['the lists of links', span('"links":[{"traceState":"a"}],"links":[{"traceState":"b"}]')],
      [
        'scalars of a span',
        span(
          '"name":"a","kind":1,"traceId":"","name":"b","kind":2,"traceId":"0123456789ABCDEF0123456789ABCDEF",' +
            '"status":{"code":1,"message":"x"},"status":{"code":2}',
        ),
      ],
      [
        'scalars of a span, the last one null',
        span('"name":"a","name":null,"startTimeUnixNano":"5","startTimeUnixNano":null,"status":{"code":1},"status":null'),
      ],
      ['the scope', request('"scope":{"name":"a","version":"1"},"scope":{"name":"b","name":"c"},"spans":[{}]')],
      ['key and value', attribute('"key":"a","value":{"stringValue":"a"},"key":"b","value":{"intValue":"9"}')],
      ['the value, the last one null', attribute('"key":"a","value":{"stringValue":"a"},"value":null')],
      ['a member of the value', attribute('"key":"a","value":{"stringValue":"a","stringValue":"b"}')],
      ['a member of the value, the last one null', attribute('"key":"a","value":{"stringValue":"a","stringValue":null}')],
      [
        'a member of a value in a list',
        attribute('"key":"a","value":{"arrayValue":{"values":[{"intValue":1,"intValue":null},{"intValue":1,"intValue":2}]}}'),
      ],
      ['the values of a list', attribute('"key":"a","value":{"arrayValue":{"values":[{"intValue":1}],"values":[{"intValue":2}]}}')],
      [
        'the values of a map',
        attribute(
          '"key":"a","value":{"kvlistValue":{"values":[{"key":"x","value":{"intValue":1}}],' +
            '"values":[{"key":"y","key":"z","value":{"intValue":1},"value":{"intValue":2}}]}}',
        ),
      ],
      ['all of it, after a byte order mark', `\ufeff${request('"spans":[{"name":"a"}],"spans":[{"name":"b"},{"name":"c"}]')}`],
    ])('%s', (_, json) => {
      expect(block(json)).toEqual(block(withoutDuplicates(json)));
    });

    test('also a list that is given under both of its names', () => {
      const [first, last] = ['a', 'b'].map((name) => `[{"scopeSpans":[{"spans":[{"name":"${name}"}]}]}]`);
      expect(block(`{"resourceSpans":${first},"resource_spans":${last}}`)).toEqual(block(`{"resourceSpans":${last}}`));
      expect(block(`{"resource_spans":${first},"x":0, "resourceSpans" : null }`)).toEqual(block('{}'));
    });

    test('also where a span of the last list is refused for its id', () => {
      const json = request('"spans":[{"name":"a"},{"name":"a"}],"spans":[{"name":"b"},{"name":"bad","spanId":"1"},{"name":"c"}]');
      expect(new BlockEncoder(dialect).add([Buffer.from(json)], 'json', 't')).toMatchObject({
        accepted: 2,
        rejected: 1,
        rejections: [{ reason: 'bad_id', spans: 1 }],
      });
      expect(block(json)).toEqual(block(request('"spans":[{"name":"b"},{"name":"c"}]')));
    });
  });

  test.each([
    ['9223372036854775807', '9223372036854775807', '9223372036854775807'],
    ['-9223372036854775808', '-9223372036854775808', '-9223372036854775808'],
    ['-0', '0', '0'],
    ['1e3', '1000', '1000'],
    ['2.0', '2', '2'],
    ['9223372036854775808', '9223372036854775808', '9223372036854776000'],
    ['9223372036854776000', '9223372036854776000', '9223372036854776000'],
    ['1e+21', '1000000000000000000000', '1e+21'],
    ['-1e+21', '-1000000000000000000000', '-1e+21'],
    ['9007199254740993.0', '9007199254740993', '9007199254740993'],
    ['1.763000000000000001e18', '1763000000000000001', '1763000000000000001'],
    ['92233720368547758070e-1', '9223372036854775807', '9223372036854775807'],
    ['0.000e9', '0', '0'],
    ['1.5', '1.5', '1.5'],
    ['1e400', 'inf', 'Infinity'],
  ])('stores the intValue %s, as a double where it is no int64', (number, hive, otelcol) => {
    const text = number === '9223372036854775808' ? '9223372036854776000' : dialect === 'hive' ? hive : otelcol;
    for (const written of [number, `"${number}"`]) {
      expect(block(attribute(`"key":"a","value":{"intValue":${written}}`))).toEqual(
        block(attribute(`"key":"a","value":{"stringValue":${JSON.stringify(text)}}`)),
      );
    }
  });

  test('stores an intValue of thousands of digits', () => {
    expect(block(attribute(`"key":"a","value":{"intValue":1${'0'.repeat(3000)}}`))).toEqual(
      block(attribute('"key":"a","value":{"intValue":1e400}')),
    );
  });

  test('stores such an intValue in a list as JSON', () => {
    const list = '{"arrayValue":{"values":[{"intValue":1e+21},{"intValue":0.5},{"intValue":"12345678901234567"}]}}';
    expect(block(attribute(`"key":"a","value":${list}`))).toEqual(
      block(attribute('"key":"a","value":{"stringValue":"[1e+21,0.5,12345678901234567]"}')),
    );
  });

  test.each(['true', '{}', '[]', '""', '"x"', '"0x10"', '"1 "', '"+1"', '"01x"', '"NaN"', '"1e"'])('refuses the intValue %s', (value) => {
    expect(() => block(attribute(`"key":"a","value":{"intValue":${value}}`))).toThrow(MalformedRequest);
  });

  test.each([
    ['"kind":"SPAN_KIND_CLIENT"', '"kind":3'],
    ['"kind":"SPAN_\\u004bIND_CLIENT"', '"kind":3'],
    ['"kind":"3"', '"kind":3'],
    ['"kind":3.0', '"kind":3'],
    ['"kind":"SPAN_KIND_UNHEARD_OF"', '"kind":99'],
    ['"kind":2.5', '"kind":99'],
    ['"kind":-1', '"kind":99'],
    ['"kind":4294967299', '"kind":99'],
    ['"kind":null', '"kind":0'],
    ['"status":{"code":"STATUS_CODE_\\u0045RROR"}', '"status":{"code":2}'],
    ['"startTimeUnixNano":1763000000000000001', '"startTimeUnixNano":"1763000000000000001"'],
    ['"startTimeUnixNano":"1763000000\\u003000000001"', '"startTimeUnixNano":"1763000000000000001"'],
    ['"startTimeUnixNano":1.763000000000000001e18', '"startTimeUnixNano":"1763000000000000001"'],
    ['"startTimeUnixNano":"0"', '"startTimeUnixNano":null'],
    ['"start_time_unix_nano":"9999999999999999999"', '"startTimeUnixNano":9999999999999999999'],
    ['"name":"\\ud83d\\udc1d"', '"name":"\u{1f41d}"'],
    ['"name":"\\ud83dx"', '"name":"\ufffdx"'],
    ['"name":"\\udc1d\\ud83d"', '"name":"\ufffd\ufffd"'],
    ['"n\\u0061me":"x"', '"name":"x"'],
  ])('reads %s as %s', (one, other) => {
    expect(block(span(one))).toEqual(block(span(other)));
  });

  test.each([
    '"startTimeUnixNano":"18446744073709551616"',
    '"startTimeUnixNano":-1',
    '"startTimeUnixNano":1.5',
    '"startTimeUnixNano":1763050436501381.98',
    '"name":1',
    '"kind":true',
    '"attributes":{}',
    '"events":[1]',
    '"attributes":[{"key":1}]',
    '"status":1',
  ])('refuses %s', (member) => {
    expect(() => block(span(member))).toThrow(MalformedRequest);
  });

  test('refuses what is not UTF-8', () => {
    const body = Buffer.from(span('"name":"x"'), 'latin1');
    for (const byte of [0x80, 0xc0, 0xe9, 0xff]) {
      body[body.indexOf('x')] = byte;
      expect(() => new BlockEncoder(dialect).add([body], 'json', 't')).toThrow(MalformedRequest);
    }
  });

  describe('leaves out a span for an id that is', () => {
    const bad = [
      ['too short', `"traceId":"${TRACE_ID.slice(1)}"`],
      ['too long', `"traceId":"${TRACE_ID}0"`],
      ['no hex', `"traceId":"${TRACE_ID.replace('e', 'g')}"`],
      ['base64', '"spanId":"ASNFZ4mrze8="'],
      ['too short, of zeros', '"spanId":"000000000000000"'],
      ["its parent's", '"parentSpanId":"0"'],
      ["a link's", `"links":[{"traceId":"${TRACE_ID}","spanId":"0123"}]`],
      ['an uneven number of characters in UTF-8', '"spanId":"0123456789abcdé"'],
    ];
    test.each(bad)('%s', (_, members) => {
      const second = `{${members},"attributes":[{"key":"a","value":{"stringValue":"b"}}],"events":[{"name":"e"}]}`;
      const spans = `"spans":[{"name":"first"},${second},{"name":"last"}]`;
      const encoder = new BlockEncoder(dialect);
      expect(encoder.add([Buffer.from(request(spans))], 'json', 'target')).toMatchObject({
        accepted: 2,
        rejected: 1,
        rejections: [{ reason: 'bad_id', spans: 1 }],
      });
      expect(encoder.rows).toBe(2);
      expect(nativeOf(encoder)).toEqual(block(request('"spans":[{"name":"first"},{"name":"last"}]')));
      expect(() => block(span(members))).toThrow(MalformedRequest);
    });
  });
});

function request(scopeSpans: string, resource = ''): string {
  return `{"resourceSpans":[{${resource}"scopeSpans":[{${scopeSpans}}]}]}`;
}

function span(members: string): string {
  return request(`"spans":[{${members}}]`);
}

function attribute(members: string): string {
  return span(`"attributes":[{${members}}]`);
}

function blockOf(json: string, dialect: 'hive' | 'otelcol'): string {
  const encoder = new BlockEncoder(dialect);
  encoder.add([Buffer.from(json)], 'json', 'target');
  return nativeOf(encoder);
}

/** The block as text, in which a difference can be seen. */
function nativeOf(encoder: BlockEncoder): string {
  return zstdDecompressSync(encoder.seal().frame).toString('latin1');
}

/** TypeScript's library does not describe the reviver's third parameter and rawJSON yet. */
const sourceText: {
  parse(text: string, reviver: (key: string, value: unknown, context: { source: string }) => unknown): unknown;
  rawJSON(text: string): unknown;
} = Object(JSON);

function withoutDuplicates(json: string): string {
  return JSON.stringify(
    sourceText.parse(json.replace('\ufeff', ''), (_, value, { source }) =>
      typeof value === 'number' ? sourceText.rawJSON(source) : value,
    ),
  );
}
