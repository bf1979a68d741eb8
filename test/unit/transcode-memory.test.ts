import { zstdDecompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { Encoding } from '../../src/otlp/encoding.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { MalformedRequest } from '../../src/transcode/bytes/malformed-request.ts';
import { sameBytes } from '../../src/transcode/bytes/same-bytes.ts';
import { Random } from '../support/generators/random.ts';
import { bytesField, doubleField, fixed64Field, messageField, stringField, varintField } from '../support/generators/wire.ts';
import { comparableRow, rowsInFrame } from '../support/oracle/native-rows.ts';

/*
 * Within a request the transcoders remember what they have read, and compare before they read. So spans that nearly
 * repeat each other have to give the same rows in one request as each in a request of its own, where there is nothing
 * to remember.
 */

const SPANS = 400;
const REQUESTS = 400;

describe.each(['hive', 'otelcol'] as const)('spans that nearly repeat each other are read as each alone, in the dialect %s,', (dialect) => {
  test.each(Array.from({ length: 12 }, (_, index) => index + 1))('as JSON, seed %i', (seed) => {
    const random = new Random(seed);
    const spaces = random.pick(['', '', ' ', '\n  ']);
    const spans = Array.from({ length: SPANS }, () => jsonSpan(random, spaces));
    expectSameBlock(
      dialect,
      'json',
      jsonRequest(spans),
      spans.map((span) => jsonRequest([span])),
    );
  });

  test.each(Array.from({ length: 12 }, (_, index) => index + 1))('as Protobuf, seed %i', (seed) => {
    const random = new Random(seed);
    const spans = Array.from({ length: SPANS }, () => protobufSpan(random));
    expectSameBlock(
      dialect,
      'protobuf',
      protobufRequest(spans),
      spans.map((span) => protobufRequest([span])),
    );
  });
});

/*
 * So have resources that nearly repeat each other, over the requests of a block: among them some of no spans, some that are
 * refused, and more different ones than are remembered.
 */
describe.each(['hive', 'otelcol'] as const)(
  'resources that nearly repeat each other are read as each in a block of its own, in the dialect %s,',
  (dialect) => {
    test.each(Array.from({ length: 8 }, (_, index) => index + 1))('as JSON, seed %i', (seed) => {
      const random = new Random(seed);
      expectSameRows(
        dialect,
        'json',
        Array.from({ length: REQUESTS }, () => jsonResourceRequest(random)),
      );
    });

    test.each(Array.from({ length: 8 }, (_, index) => index + 1))('as Protobuf, seed %i', (seed) => {
      const random = new Random(seed);
      expectSameRows(
        dialect,
        'protobuf',
        Array.from({ length: REQUESTS }, () => protobufResourceRequest(random)),
      );
    });
  },
);

test('a list that is given before the attributes and again behind them, where the same stood behind others, is the last one', () => {
  const tail = '"attributes":[{"key":"key","value":{"stringValue":"text"}}],"events":[],"status":{"code":1},"links":[]}';
  const spans = [
    `{"name":"a",${tail}`,
    `{"name":"a","events":[{"name":"first"}],"status":{"code":2,"message":"first"},${tail}`,
    `{"name":"a","links":[{}],${tail}`,
  ];
  for (const dialect of ['hive', 'otelcol'] as const)
    expectSameBlock(
      dialect,
      'json',
      jsonRequest(spans),
      spans.map((span) => jsonRequest([span])),
    );
});

test('attributes of a request before are not taken for those of the next one', () => {
  const encoder = new BlockEncoder('hive');
  encoder.add([requestWithKey('one.key.')], 'json', 't');
  expect(() => encoder.add([Buffer.concat([requestWithKey('two.keys'), Buffer.from('x')])], 'json', 't')).toThrow();
  encoder.add([requestWithKey('thirdkey')], 'json', 't');
  const native = zstdDecompressSync(encoder.seal().frame).toString('latin1');
  expect(native).toContain('thirdkey');
  expect(native).not.toContain('two.keys');
});

test('bytes are the same only if each of them is', () => {
  const random = new Random(1);
  for (let round = 0; round < 20_000; round++) {
    const length = random.between(8, 40);
    const one = Buffer.alloc(100, random.pick([0, 0x80, 0x7f, 0xff, 0x20]));
    if (random.chance(0.5)) random.bytes(length).copy(one);
    one.copy(one, 50, 0, length);
    const view = new DataView(one.buffer, one.byteOffset, one.length);
    if (sameBytes(view, 0, 50, length)) expect(one.subarray(0, length)).toEqual(one.subarray(50, 50 + length));
    one[50 + random.below(length)] ^= 1 << random.below(8);
    expect(sameBytes(view, 0, 50, length)).toBe(false);
  }
});

function requestWithKey(key: string): Buffer {
  const attributes = [key, 'same.length'].map((name) => `{"key":"${name}","value":{"stringValue":"value"}}`);
  return jsonRequest([`{"attributes":[${attributes.join(',')}]}`]);
}

function jsonRequest(spans: string[]): Buffer {
  return Buffer.from(`{"resourceSpans":[{"scopeSpans":[{"spans":[${spans.join(',')}]}]}]}`);
}

function protobufRequest(spans: Buffer[]): Buffer {
  return messageField(1, [messageField(2, spans)]);
}

function expectSameBlock(dialect: 'hive' | 'otelcol', encoding: Encoding, together: Buffer, alone: Buffer[]): void {
  const one = new BlockEncoder(dialect);
  const other = new BlockEncoder(dialect);
  const { accepted, rejected } = one.add([together], encoding, 'target');
  expect({ accepted, rejected }).toEqual({ accepted: alone.length, rejected: 0 });
  for (const body of alone) other.add([body], encoding, 'target');
  expect(zstdDecompressSync(one.seal().frame).equals(zstdDecompressSync(other.seal().frame))).toBe(true);
}

function expectSameRows(dialect: 'hive' | 'otelcol', encoding: Encoding, bodies: Buffer[]): void {
  const together = new BlockEncoder(dialect);
  const alone = bodies.flatMap((body, index) => {
    const encoder = new BlockEncoder(dialect);
    const answers = [together, encoder].map((one) => answerOf(() => one.add([body], encoding, `target ${index % 2}`)));
    expect(answers[0]).toEqual(answers[1]);
    return encoder.rows === 0 ? [] : rows(encoder);
  });
  expect(alone.length).toBeGreaterThan(REQUESTS / 2);
  expect(rows(together)).toEqual(alone);
}

function rows(encoder: BlockEncoder): string[] {
  const duplicates: unknown[] = [];
  const found = rowsInFrame(encoder.seal().frame, duplicates).map(comparableRow);
  expect(duplicates).toEqual([]);
  return found;
}

function answerOf(add: () => unknown): unknown {
  try {
    return add();
  } catch (error) {
    if (error instanceof MalformedRequest) return 'refused';
    throw error;
  }
}

function jsonResourceRequest(random: Random): Buffer {
  const key = () => JSON.stringify(random.chance(0.3) ? 'service.name' : random.pick(KEYS));
  const attributes = Array.from({ length: random.below(4) }, () => `{"key":${key()},"value":${jsonValue(random)}}`);
  const object = `{"attributes":[${attributes.join(',')}]}`;
  const space = random.pick(['', '', ' ']);
  const resource = `"resource":${space}${random.pick([object, object, '{}', 'null', '{"attributes":[]}'])}`;
  const scopes = `"scopeSpans":[{"spans":[${random.chance(0.2) ? '' : '{"name":"a"}'}]}]`;
  const members = random.chance(0.1) ? [resource, scopes, resource.replace('a', 'A')] : random.shuffled([resource, scopes]);
  return Buffer.from(`{"resourceSpans":[{${members.join(',')}}]}${random.chance(0.1) ? 'x' : ''}`);
}

function protobufResourceRequest(random: Random): Buffer {
  const name = () => messageField(1, [stringField(1, 'service.name'), messageField(2, [stringField(1, random.pick(TEXTS))])]);
  const attributes = Array.from({ length: random.below(4) }, () => (random.chance(0.3) ? name() : protobufAttribute(random, 1)));
  const resource = messageField(1, attributes);
  const scopes = random.chance(0.2) ? [] : [messageField(2, [messageField(2, [stringField(5, 'a')])])];
  const resources = random.pick([
    [resource],
    [resource],
    [resource],
    [],
    [resource, messageField(1, attributes.slice(1))],
    [messageField(1, attributes.slice(0, 1)), resource],
  ]);
  const request = messageField(1, random.shuffled([...resources, ...scopes]));
  return random.chance(0.1) ? Buffer.concat([request, Buffer.of(0x0a)]) : request;
}

const NAMES = ['', 'abc', 'name', 'GET /a', 'GET /b', 'POST /a', 'graphql.operation A', 'graphql.operation B'];
const KEYS = [
  '',
  'k',
  'key',
  'six.ke',
  'http.method',
  'http.route',
  'http.routf',
  'hive.target_id',
  'a key that is longer than the others',
];
/** They differ by one byte, at the ends of words and in the middle, or in length by one. */
const TEXTS = [
  '',
  'a',
  'b',
  'GET',
  'PUT',
  '12345678',
  '12345679',
  '02345678',
  '1234567890123456',
  '1234567890123457',
  'value of some length',
  'value of same length',
  'value of some lengti',
];
const IDS = [
  '',
  '0123456789abcdef0123456789abcdef',
  '0123456789abcdef0123456789abcdee',
  '0123456789ABCDEF0123456789abcdef',
  '00000000000000000000000000000000',
];
const TIMES = [
  '1763000000000000000',
  '1763000000999999999',
  '1763000001000000000',
  '9999999999999999999',
  '18446744073709551615',
  '1',
  '0',
];

function jsonSpan(random: Random, space: string): string {
  const member = (name: string, value: string) => `${space}"${name}":${space}${value}`;
  const attributes = Array.from(
    { length: random.below(5) },
    () => `${space}{${member('key', JSON.stringify(random.pick(KEYS)))},${member('value', jsonValue(random))}${space}}`,
  );
  const head = [
    member('traceId', `"${random.pick(IDS)}"`),
    member('name', JSON.stringify(random.pick(NAMES))),
    member('startTimeUnixNano', `"${random.pick(TIMES)}"`),
  ];
  const tail = [
    member('droppedAttributesCount', '0'),
    member('events', random.pick(['[]', '[]', '[]', '[{"name":"event"}]'])),
    member('status', random.pick(JSON_STATUSES)),
    member('links', '[]'),
    member('flags', '257'),
  ];
  if (random.chance(0.1)) tail.pop();
  if (random.chance(0.1)) tail.push(member('endTimeUnixNano', `"${random.pick(TIMES)}"`));
  if (random.chance(0.1)) tail.splice(2, 1);
  const members = [...head, member('attributes', `[${attributes.join(',')}]`), ...tail];
  return `{${(random.chance(0.1) ? random.shuffled(members) : members).join(',')}}`;
}

const JSON_STATUSES = [
  '{"code":0}',
  '{"code":0}',
  '{"code":1}',
  '{"code":2,"message":"broken"}',
  '{"code":2,"message":"brokem"}',
  '{"code":2,"message":"br\\u006fken"}',
  '{}',
  'null',
];

function jsonValue(random: Random): string {
  const text = JSON.stringify(random.pick(TEXTS));
  return random.pick([
    `{"stringValue":${text}}`,
    `{"stringValue":${text}}`,
    `{"stringValue":${text}}`,
    `{"stringValue":"escaped \\u0061"}`,
    `{"intValue":${random.below(3)}}`,
    `{"intValue":"${random.below(3)}"}`,
    '{"intValue":1e3}',
    '{"boolValue":true}',
    '{"boolValue":false}',
    '{"doubleValue":0.5}',
    '{}',
    'null',
    `{"arrayValue":{"values":[{"stringValue":${text}}]}}`,
    '{"bytesValue":"AAEC"}',
  ]);
}

function protobufSpan(random: Random): Buffer {
  const id = Buffer.from(random.pick(IDS), 'hex');
  const name = stringField(5, random.pick(NAMES));
  const attributes = Array.from({ length: random.below(5) }, () => protobufAttribute(random));
  const fields = [
    bytesField(1, id),
    name,
    fixed64Field(7, BigInt(random.pick(TIMES))),
    ...attributes,
    messageField(15, [varintField(3, random.below(3))]),
  ];
  return messageField(2, random.chance(0.1) ? random.shuffled(fields) : fields);
}

/** Words of zeros are equal as numbers to others that are not; the two zeros and NaN are among the doubles' bytes. */
const BINARY_TEXTS = [
  Buffer.alloc(8),
  Buffer.from([0, 0, 0, 0, 0, 0, 0, 0x80]),
  Buffer.alloc(16),
  Buffer.concat([Buffer.alloc(15), Buffer.of(0x80)]),
  Buffer.alloc(8, 0xff),
];

function protobufAttribute(random: Random, field = 9): Buffer {
  const key = stringField(1, random.pick(KEYS));
  const text = random.chance(0.3) ? random.pick(BINARY_TEXTS) : Buffer.from(random.pick(TEXTS));
  const value = random.pick([
    [bytesField(1, text)],
    [bytesField(1, text)],
    [bytesField(1, text)],
    [varintField(3, random.below(3))],
    [varintField(2, random.below(2))],
    [doubleField(4, random.pick([0, -0, 0.5, Number.NaN]))],
    [],
    [messageField(5, [messageField(1, [bytesField(1, text)])])],
    [bytesField(7, text)],
    [bytesField(1, text), varintField(3, 7)],
  ]);
  const fields = random.pick([
    [key, messageField(2, value)],
    [key, messageField(2, value)],
    [key, messageField(2, value)],
    [messageField(2, value), key],
    [key],
    [key, messageField(2, value), stringField(1, 'another')],
    [key, messageField(2, value), varintField(9, 1)],
  ]);
  return messageField(field, fields);
}
