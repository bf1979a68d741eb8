import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import type { Encoding } from '../../src/otlp/encoding.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { MalformedRequest } from '../../src/transcode/bytes/malformed-request.ts';
import { hostileJson, hostileProtobuf } from '../support/generators/hostile-bodies.ts';
import { rowsInFrame } from '../support/oracle/native-rows.ts';

const MB = 1024 * 1024;
const SHAPES = [
  ...Object.entries(hostileProtobuf).map(([name, make]) => ({ encoding: 'protobuf' as const, name, make })),
  ...Object.entries(hostileJson).map(([name, make]) => ({ encoding: 'json' as const, name, make })),
];
const GOOD = Buffer.from('{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"good"}]}]}]}');

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

describe('a body of one megabyte with nothing but', () => {
  test.each(SHAPES)(
    '$name, as $encoding, takes no time to speak of, no memory for long, and nothing from the next one',
    ({ encoding, make }) => {
      const body = make(MB);
      const encoder = new BlockEncoder('otelcol');
      const before = memoryBytes();
      const startedAt = process.threadCpuUsage();
      const taken = add(encoder, body, encoding);
      const rows = encoder.rows;
      expect(taken ? rows : 0).toBe(rows);
      encoder.add([GOOD], 'json', 'target');
      const { frame } = encoder.seal();
      const { user, system } = process.threadCpuUsage(startedAt);
      // A quadratic way would take minutes.
      expect((user + system) / 1e6).toBeLessThan(5);
      expect(frame.buffer.byteLength).toBeLessThanOrEqual(Math.max(131_072, 2 * frame.length));
      expect(memoryBytes() - before).toBeLessThan(48 * MB);

      encoder.add([GOOD], 'json', 'target');
      expect(rowsInFrame(encoder.seal().frame, [])).toMatchObject([{ SpanName: 'good' }]);
    },
  );
});

test.each([
  ['protobuf', 'empty spans'],
  ['protobuf', 'empty events'],
  ['protobuf', 'empty links'],
  ['protobuf', 'resource attributes on many spans'],
  ['json', 'empty spans'],
  ['json', 'empty events'],
  ['json', 'empty links'],
] as const)('%s that would become far more than it is is refused: %s', (encoding, name) => {
  const shapes = encoding === 'json' ? hostileJson : hostileProtobuf;
  expect(() => new BlockEncoder('hive').add([shapes[name](MB / 2)], encoding, 'target')).toThrow(MalformedRequest);
  // As a part of a request that has more to say, it is fine.
  expect(
    new BlockEncoder('hive').add([shapes[name === 'resource attributes on many spans' ? 'tiny spans' : name](4 * 1024)], encoding, 'target')
      .rejected,
  ).toBe(0);
});

test.each([
  ['protobuf', 'doubles of 300 digits'],
  ['protobuf', 'control characters in an array'],
  ['json', 'doubles of 300 digits'],
] as const)('%s whose spans would take many times its memory is refused: %s', (encoding, name) => {
  const shapes = encoding === 'json' ? hostileJson : hostileProtobuf;
  const encoder = new BlockEncoder('hive');
  const before = memoryBytes();
  expect(() => encoder.add([shapes[name](12 * MB)], encoding, 'target')).toThrow('far more memory than its bytes');
  expect(memoryBytes() - before).toBeLessThan(48 * MB);
  // The limit was for that request.
  expect(encoder.add([shapes['one long string'](30 * MB)], encoding, 'target').accepted).toBe(1);
});

test('a kvlist of more than a million members is refused', () => {
  const member = '{"value":{"intValue":1}},';
  const value = `{"kvlistValue":{"values":[${member.repeat(1_100_000).slice(0, -1)}]}}`;
  const body = Buffer.from(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"value":${value}}]}]}]}]}`);
  expect(() => new BlockEncoder('hive').add([body], 'json', 'target')).toThrow(MalformedRequest);
});

test('small spans of a resource with three hundred attributes are within the bounds, also when they are read twice for a bad id', () => {
  const attributes = Array.from({ length: 300 }, (_, index) => ({ key: `key ${index}`, value: { stringValue: 'v' } }));
  const spans = Array.from({ length: 20_000 }, (_, index) => ({
    traceId: '0123456789abcdef0123456789abcdef',
    spanId: '0123456789abcdef',
    name: `span ${index % 10}`,
  }));
  const request = (first: object) =>
    Buffer.from(JSON.stringify({ resourceSpans: [{ resource: { attributes }, scopeSpans: [{ spans: [first, ...spans] }] }] }));
  const encoder = new BlockEncoder('hive');
  expect(encoder.add([request({ name: 'good' })], 'json', 'target')).toEqual({ accepted: 20_001, rejected: 0 });
  expect(encoder.add([request({ spanId: 'bad' })], 'json', 'target')).toMatchObject({ accepted: 20_000, rejected: 1 });
});

function add(encoder: BlockEncoder, body: Buffer, encoding: Encoding): boolean {
  try {
    encoder.add([body], encoding, 'target');
    return true;
  } catch (error) {
    if (!(error instanceof MalformedRequest)) throw error;
    return false;
  }
}

function memoryBytes(): number {
  collectGarbage();
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
