import { describe, expect, test } from 'vitest';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { MalformedRequest } from '../../src/transcode/bytes/malformed-request.ts';
import {
  bytesField,
  doubleField,
  fixed32Field,
  fixed64Field,
  messageField,
  stringField,
  tag,
  varint,
  varintField,
  WIRE_BYTES,
  WIRE_GROUP_END,
  WIRE_GROUP_START,
  WIRE_VARINT,
} from '../support/generators/wire.ts';
import { comparableRow, rowsInFrame } from '../support/oracle/native-rows.ts';

const DIALECTS = ['hive', 'otelcol'] as const;
const TRACE_ID = bytesField(1, Buffer.alloc(16, 7));
const NAME = stringField(5, 'name');
const ATTRIBUTE = messageField(9, [stringField(1, 'key'), messageField(2, [stringField(1, 'value')])]);
const SPAN = [TRACE_ID, NAME, ATTRIBUTE];

/** What may stand between the fields of any message. */
const UNKNOWN: [string, Buffer][] = [
  ['a varint', varintField(100, 2n ** 64n - 1n)],
  ['eight bytes', fixed64Field(100, 1n)],
  ['four bytes', fixed32Field(100, 1)],
  ['bytes', bytesField(100, Buffer.alloc(300))],
  ['the largest number', varintField(2 ** 29 - 1, 1)],
  [
    'a known number with another wire type',
    Buffer.concat([varintField(5, 1), varintField(1, 1), stringField(6, 'CLIENT'), stringField(7, 'now'), varintField(9, 1)]),
  ],
  ['a group', group(100, varintField(1, 1), stringField(5, 'no name'))],
  ['an empty group', group(5)],
  ['groups in each other', group(100, group(101, group(100, fixed64Field(9, 1n))), bytesField(1, Buffer.alloc(3)))],
  ['a varint of ten bytes that says little', Buffer.concat([tag(100, WIRE_VARINT), varint(1, 9)])],
  ['a field with an over-long tag and length', Buffer.concat([varint(100 * 8 + WIRE_BYTES, 7), varint(3, 9), Buffer.from('abc')])],
];

describe.each(DIALECTS)('Protobuf in the dialect %s', (dialect) => {
  const rows = (...resourceSpans: Buffer[][]) => rowsOf(Buffer.concat(resourceSpans.map((fields) => messageField(1, fields))), dialect);
  const spanRows = (...fields: Buffer[]) => rows([messageField(2, [messageField(2, fields)])]);
  const valueRows = (...value: Buffer[]) => spanRows(messageField(9, [stringField(1, 'key'), messageField(2, value)]));
  const pieces = (...values: Buffer[][]) =>
    spanRows(messageField(9, [stringField(1, 'key'), ...values.map((value) => messageField(2, value))]));
  const plain = spanRows(...SPAN);

  test.each(UNKNOWN)('skips what is unknown at every level: %s', (_, unknown) => {
    const span = messageField(2, [
      unknown,
      TRACE_ID,
      unknown,
      NAME,
      messageField(9, [stringField(1, 'key'), messageField(2, [stringField(1, 'value')])]),
      unknown,
    ]);
    expect(rowsOf(Buffer.concat([unknown, messageField(1, [messageField(2, [span])]), unknown]), dialect)).toEqual(plain);
  });

  test('takes fields in any order, and the last of those that come more than once', () => {
    expect(spanRows(ATTRIBUTE, NAME, TRACE_ID)).toEqual(plain);
    expect(spanRows(stringField(5, 'other'), bytesField(1, Buffer.alloc(3)), ATTRIBUTE, TRACE_ID, NAME)).toEqual(plain);
    expect(
      spanRows(
        messageField(9, [stringField(1, 'other'), messageField(2, [stringField(1, 'value')]), stringField(1, 'key')]),
        TRACE_ID,
        NAME,
      ),
    ).toEqual(plain);
  });

  test('adds up messages that come in pieces', () => {
    const resource = [messageField(1, [attributeOf('service.name', 'a')]), messageField(1, [attributeOf('b', 'c')])];
    const scope = [messageField(1, [stringField(1, 'scope')]), messageField(1, [stringField(2, '1.0')])];
    const status = [messageField(15, [stringField(2, 'broken')]), messageField(15, [varintField(3, 2)])];
    const whole = rows([
      messageField(1, [attributeOf('service.name', 'a'), attributeOf('b', 'c')]),
      messageField(2, [
        messageField(1, [stringField(1, 'scope'), stringField(2, '1.0')]),
        messageField(2, [messageField(15, [stringField(2, 'broken'), varintField(3, 2)])]),
      ]),
    ]);
    expect(rows([resource[0], messageField(2, [scope[0], messageField(2, status), scope[1]]), resource[1]])).toEqual(whole);
    // A value in pieces, the cut within a list; and one whose list another value has superseded.
    expect(pieces([list('a')], [list('b', 'c')])).toEqual(pieces([list('a', 'b', 'c')]));
    expect(pieces([list('a')], [stringField(1, 'x'), list('b')])).toEqual(pieces([list('b')]));
    expect(pieces([list('a')], [stringField(1, 'x')])).toEqual(pieces([stringField(1, 'x')]));
  });

  test.each([
    ['a bool in more bits than one', [varintField(2, 2n ** 63n)], [varintField(2, 1)]],
    ['a bool in ten bytes', [varintField(2, 1, 9)], [varintField(2, 1)]],
    ['an integer in ten bytes', [varintField(3, 5, 9)], [varintField(3, 5)]],
    [
      'an integer with bits beyond the 64th',
      [Buffer.concat([tag(3, WIRE_VARINT), Buffer.alloc(9, 0xff), Buffer.of(0x7f)])],
      [varintField(3, -1)],
    ],
    ['a oneof given twice', [stringField(1, 'x'), doubleField(4, 0.5)], [doubleField(4, 0.5)]],
    ['a oneof with unknown fields after it', [doubleField(4, 0.5), varintField(8, 1), stringField(3, 'x')], [doubleField(4, 0.5)]],
  ])('reads %s', (_, value, same) => {
    expect(valueRows(...value)).toEqual(valueRows(...same));
  });

  test('takes the lower 32 bits of an enum', () => {
    expect(spanRows(varintField(6, 2n ** 32n + 3n))).toEqual(spanRows(varintField(6, 3)));
    expect(spanRows(varintField(6, -1))).toEqual(spanRows(varintField(6, 99)));
  });

  test('refuses messages in pieces of which one ends inside a field, though together they would be whole', () => {
    const text = messageField(1, [stringField(1, 'some text')]);
    const [head, rest] = [text.subarray(0, 5), text.subarray(5)];
    for (const fields of [
      [messageField(9, [messageField(2, [bytesField(5, head), bytesField(5, rest)])])],
      [messageField(9, [messageField(2, [bytesField(5, text), bytesField(5, head), bytesField(5, rest)])])],
      [messageField(9, [messageField(2, [messageField(6, [messageField(1, [bytesField(2, head), bytesField(2, rest)])])])])],
      [bytesField(15, stringField(2, 'text').subarray(0, 3)), bytesField(15, stringField(2, 'text').subarray(3))],
    ]) {
      expect(() => spanRows(...fields)).toThrow(MalformedRequest);
    }
  });

  test('stores text that is not UTF-8 as it is', () => {
    const encoder = new BlockEncoder(dialect);
    const text = Buffer.of(0x61, 0xff, 0xc0, 0x80, 0xed, 0xa0, 0x80, 0x62);
    encoder.add(
      [
        messageField(1, [
          messageField(2, [
            messageField(2, [bytesField(3, text), messageField(9, [bytesField(1, text), messageField(2, [bytesField(1, text)])])]),
          ]),
        ]),
      ],
      'protobuf',
      'target',
    );
    expect(rowsInFrame(encoder.seal().frame, [])).toMatchObject([
      { TraceState: text.toString(), SpanAttributes: { [text.toString()]: text.toString() } },
    ]);
  });

  test.each<[string, Buffer]>([
    ['a field with the number 0', Buffer.of(0x02, 0x00)],
    ['a field with the number 0 in a group', group(100, Buffer.of(0x00, 0x00))],
    ['a field number of more than 29 bits', Buffer.concat([varint(2n ** 32n + 5n * 8n + 2n), varint(1), Buffer.from('x')])],
    ['wire type 6', Buffer.of(0x2e)],
    ['wire type 7', Buffer.of(0x2f)],
    ['the end of a group that was not started', tag(100, WIRE_GROUP_END)],
    ['a group without an end', tag(100, WIRE_GROUP_START)],
    ['a group with the end of another', Buffer.concat([tag(100, WIRE_GROUP_START), tag(101, WIRE_GROUP_END)])],
    ['an unknown varint of eleven bytes', Buffer.concat([tag(100, WIRE_VARINT), Buffer.alloc(10, 0x80), Buffer.of(0)])],
    ['an enum of eleven bytes', Buffer.concat([tag(6, WIRE_VARINT), Buffer.alloc(10, 0x80), Buffer.of(0)])],
    ['a length of 2^32', Buffer.concat([tag(5, WIRE_BYTES), varint(2n ** 32n)])],
    ['a length of 2^64 − 1', Buffer.concat([tag(5, WIRE_BYTES), varint(2n ** 64n - 1n)])],
    ['a length of a byte more than there is', Buffer.concat([tag(5, WIRE_BYTES), varint(5), Buffer.from('text')])],
    ['a time of seven bytes', fixed64Field(7, 1n).subarray(0, 8)],
    ['an unknown field of three bytes for four', fixed32Field(100, 1).subarray(0, -1)],
    ['a tag without anything', tag(6, WIRE_VARINT)],
    ['half a tag', Buffer.of(0xb2)],
  ])('refuses %s, wherever it is, and stores nothing', (_, bad) => {
    const encoder = new BlockEncoder(dialect);
    const good = messageField(1, [messageField(2, [messageField(2, SPAN)])]);
    const places = [
      bad,
      messageField(1, [bad]),
      messageField(1, [messageField(1, [bad])]),
      messageField(1, [messageField(2, [bad])]),
      messageField(1, [messageField(2, [messageField(1, [bad])])]),
      messageField(1, [messageField(2, [messageField(2, [...SPAN, bad])])]),
      ...[9, 11, 13, 15].map((field) => messageField(1, [messageField(2, [messageField(2, [...SPAN, messageField(field, [bad])])])])),
    ];
    for (const [index, place] of places.entries()) {
      expect(() => encoder.add([Buffer.concat([good, place])], 'protobuf', 'target'), `place ${index}`).toThrow(MalformedRequest);
      expect(encoder.rows).toBe(0);
    }
    encoder.add([good], 'protobuf', 'target');
    expect(rowsInFrame(encoder.seal().frame, []).map(comparableRow)).toEqual(plain);
  });
});

function rowsOf(body: Buffer, dialect: 'hive' | 'otelcol'): string[] {
  const encoder = new BlockEncoder(dialect);
  encoder.add([body], 'protobuf', 'target');
  return rowsInFrame(encoder.seal().frame, []).map(comparableRow);
}

function attributeOf(key: string, value: string): Buffer {
  return messageField(1, [stringField(1, key), messageField(2, [stringField(1, value)])]);
}

function list(...texts: string[]): Buffer {
  return messageField(
    5,
    texts.map((text) => messageField(1, [stringField(1, text)])),
  );
}

function group(number: number, ...fields: Buffer[]): Buffer {
  return Buffer.concat([tag(number, WIRE_GROUP_START), ...fields, tag(number, WIRE_GROUP_END)]);
}
