import { messageField, stringField, varintField, bytesField, doubleField, tag, varint, WIRE_BYTES } from './wire.ts';

/** Makes a body of about `bytes` bytes. */
type Shape = (bytes: number) => Buffer;

/** Hostile Protobuf bodies, named after what they have too much of. */
export const hostileProtobuf: Readonly<Record<string, Shape>> = {
  'empty resources': (bytes) => repeated(messageField(1, []), bytes),
  'empty scopes': (bytes) => resource(repeated(messageField(2, []), bytes)),
  'empty spans': (bytes) => spans(repeated(messageField(2, []), bytes)),
  'tiny spans': (bytes) => spans(numbered(bytes, (index) => messageField(2, [stringField(5, `${index}`)]))),
  'empty events': (bytes) => span(repeated(messageField(11, []), bytes)),
  'empty links': (bytes) => span(repeated(messageField(13, []), bytes)),
  'empty attributes': (bytes) => span(repeated(messageField(9, []), bytes)),
  'attributes of one key': (bytes) => span(repeated(attribute(9, 'k', stringField(1, 'v')), bytes)),
  'attributes of distinct keys': (bytes) => span(numbered(bytes, (index) => attribute(9, `k${index}`, stringField(1, 'v')))),
  'attributes of event after event': (bytes) =>
    span(numbered(bytes, (index) => messageField(11, [attribute(3, `k${index}`, stringField(1, 'v'))]))),
  'distinct resource attributes': (bytes) =>
    resource(messageField(1, [numbered(bytes, (index) => attribute(1, `k${index}`, stringField(1, `v${index}`)))])),
  'resource attributes on many spans': (bytes) =>
    repeatedResource(
      bytes,
      Buffer.concat([
        messageField(1, [numbered(40_000, (index) => attribute(1, `k${index}`, stringField(1, 'v')))]),
        messageField(2, [repeated(messageField(2, []), 8000)]),
      ]),
    ),
  'doubles of 300 digits': (bytes) => span(repeated(attribute(9, 'k', doubleField(4, 1e300)), bytes)),
  'one long string': (bytes) => span(attribute(9, 'k', bytesField(1, Buffer.alloc(bytes, 0x61)))),
  'one long name': (bytes) => span(bytesField(5, Buffer.alloc(bytes, 0x61))),
  'long bytes': (bytes) => span(attribute(9, 'k', bytesField(7, Buffer.alloc(bytes, 0x61)))),
  'one long array': (bytes) => span(attribute(9, 'k', messageField(5, [repeated(messageField(1, [varintField(3, 1)]), bytes)]))),
  'one long kvlist': (bytes) =>
    span(attribute(9, 'k', messageField(6, [numbered(bytes, (index) => attribute(1, `k${index}`, stringField(1, 'v')))]))),
  'control characters in an array': (bytes) =>
    span(attribute(9, 'k', messageField(5, [messageField(1, [bytesField(1, Buffer.alloc(bytes, 0x01))])]))),
  'a string in sixty arrays': (bytes) => span(attribute(9, 'k', nestedArrays(60, bytesField(1, Buffer.alloc(bytes, 0x61))))),
  'a string in sixty kvlists': (bytes) => span(attribute(9, 'k', nestedKvlists(60, bytesField(1, Buffer.alloc(bytes, 0x61))))),
  'an array in pieces': (bytes) => span(messageField(9, [messageField(2, [repeated(messageField(5, [messageField(1, [])]), bytes)])])),
  'unknown fields': (bytes) => span(repeated(varintField(100, 1), bytes)),
  'unknown groups': (bytes) => span(repeated(Buffer.of(0x9b, 0x06, 0x9c, 0x06), bytes)),
  'a resource in pieces': (bytes) => resource(repeated(messageField(1, [attribute(1, 'k', stringField(1, 'v'))]), bytes)),
  'spans with bad ids': (bytes) => spans(repeated(messageField(2, [bytesField(1, Buffer.alloc(1))]), bytes)),
};

/** The same in JSON. */
export const hostileJson: Readonly<Record<string, Shape>> = {
  'empty resources': (bytes) => text('{"resourceSpans":[', '{},', bytes, '{}]}'),
  'empty scopes': (bytes) => text('{"resourceSpans":[{"scopeSpans":[', '{},', bytes, '{}]}]}'),
  'empty spans': (bytes) => text(SPANS, '{},', bytes, `{}${SPANS_END}`),
  'empty events': (bytes) => text(`${SPANS}{"events":[`, '{},', bytes, `{}]}${SPANS_END}`),
  'empty links': (bytes) => text(`${SPANS}{"links":[`, '{},', bytes, `{}]}${SPANS_END}`),
  'empty attributes': (bytes) => text(`${SPANS}{"attributes":[`, '{},', bytes, `{}]}${SPANS_END}`),
  'attributes of one key': (bytes) => text(`${SPANS}{"attributes":[`, '{"key":"k","value":{"intValue":1}},', bytes, `{}]}${SPANS_END}`),
  'attributes of distinct keys': (bytes) =>
    Buffer.concat([
      Buffer.from(`${SPANS}{"attributes":[`),
      numbered(bytes, (index) => Buffer.from(`{"key":"k${index}","value":{"stringValue":""}},`)),
      Buffer.from(`{}]}${SPANS_END}`),
    ]),
  'white space': (bytes) => text('', ' ', bytes, '{}'),
  'white space in a list': (bytes) => text(SPANS, ' \n', bytes, SPANS_END),
  'one long string': (bytes) => text(`${SPANS}{"name":"`, 'a', bytes, `"}${SPANS_END}`),
  'one string of escapes': (bytes) => text(`${SPANS}{"name":"`, '\\n', bytes, `"}${SPANS_END}`),
  'one string of long escapes': (bytes) =>
    text(`${SPANS}{"attributes":[{"key":"k","value":{"stringValue":"`, '\\u0001', bytes, `"}}]}${SPANS_END}`),
  'strings of one escape': (bytes) =>
    text(`${SPANS}{"attributes":[`, '{"key":"","value":{"stringValue":"\\n"}},', bytes, `{}]}${SPANS_END}`),
  'an array of strings of one escape': (bytes) =>
    text(`${SPANS}{"attributes":[{"key":"k","value":{"arrayValue":{"values":[`, '{"stringValue":"\\n"},', bytes, `{}]}}}]}${SPANS_END}`),
  'an array of control characters': (bytes) =>
    text(`${SPANS}{"attributes":[{"key":"k","value":{"arrayValue":{"values":[{"stringValue":"`, '\\u0001', bytes, `"}]}}}]}${SPANS_END}`),
  'a number of many digits': (bytes) => text(`${SPANS}{"startTimeUnixNano":1`, '0', bytes, `e-999}${SPANS_END}`),
  'an intValue of many digits': (bytes) => text(`${SPANS}{"attributes":[{"key":"k","value":{"intValue":1`, '0', bytes, `}}]}${SPANS_END}`),
  'a doubleValue of many digits': (bytes) =>
    text(`${SPANS}{"attributes":[{"key":"k","value":{"doubleValue":"0.`, '0', bytes, `1"}}]}${SPANS_END}`),
  'a kind of many digits': (bytes) => text(`${SPANS}{"kind":1`, '0', bytes, `}${SPANS_END}`),
  'doubles of 300 digits': (bytes) =>
    text(`${SPANS}{"attributes":[`, '{"key":"k","value":{"doubleValue":1e300}},', bytes, `{}]}${SPANS_END}`),
  'long base64': (bytes) => text(`${SPANS}{"attributes":[{"key":"k","value":{"bytesValue":"`, 'AAAA', bytes, `"}}]}${SPANS_END}`),
  'long base64 of escapes': (bytes) =>
    text(`${SPANS}{"attributes":[{"key":"k","value":{"bytesValue":"`, '\\u0041', bytes, `"}}]}${SPANS_END}`),
  'one long array': (bytes) =>
    text(`${SPANS}{"attributes":[{"key":"k","value":{"arrayValue":{"values":[`, '{"intValue":1},', bytes, `{}]}}}]}${SPANS_END}`),
  'one long kvlist': (bytes) =>
    Buffer.concat([
      Buffer.from(`${SPANS}{"attributes":[{"key":"k","value":{"kvlistValue":{"values":[`),
      numbered(bytes, (index) => Buffer.from(`{"key":"k${index}","value":{"intValue":1}},`)),
      Buffer.from(`{}]}}}]}${SPANS_END}`),
    ]),
  'a string in sixty kvlists': (bytes) =>
    text(
      `${SPANS}{"attributes":[{"key":"k","value":${'{"kvlistValue":{"values":[{"key":"k","value":'.repeat(60)}{"stringValue":"`,
      'a',
      bytes,
      `"}${'}]}}'.repeat(60)}}]}${SPANS_END}`,
    ),
  'a string in sixty kvlists before their keys': (bytes) =>
    text(
      `${SPANS}{"attributes":[{"key":"k","value":${'{"kvlistValue":{"values":[{"value":'.repeat(60)}{"stringValue":"`,
      'a',
      bytes,
      `"}${',"key":"k"}]}}'.repeat(60)}}]}${SPANS_END}`,
    ),
  'unknown keys': (bytes) => text('{', '"x":0,', bytes, '"":0}'),
  'unknown keys of a span': (bytes) => text(`${SPANS}{`, '"":0,', bytes, `"":0}${SPANS_END}`),
  'unknown keys with underscores': (bytes) => text(`${SPANS}{`, '"a_b_c_d_e_f_g":0,', bytes, `"":0}${SPANS_END}`),
  'one long unknown key': (bytes) => text(`${SPANS}{"`, '_a', bytes, `":0}${SPANS_END}`),
  'one long unknown key of escapes': (bytes) => text(`${SPANS}{"`, '\\n', bytes, `":0}${SPANS_END}`),
  'known keys in many ways': (bytes) => text(`${SPANS}{`, '"n\\u0061me" :"a",', bytes, `"":0}${SPANS_END}`),
  'lists given twice': (bytes) => text('{"resourceSpans":[{"scopeSpans":[{"spans":[{', '"events":[],', bytes, '"events":[]}]}]}]}'),
  'numbers in a list given twice': (bytes) => text('{"resourceSpans":[],"resourceSpans":[', '0,', bytes, '0]}'),
  'spans in a list given twice': (bytes) =>
    text(
      '{"resourceSpans":[],"resourceSpans":[{"scopeSpans":[{"spans":[',
      '{"events":[],"events":[{"name":"a"}],"name":"some name"},',
      bytes,
      '{}]}]}]}',
    ),
  'brackets': (bytes) => text('{"x":', '[', bytes, ''),
  'bad ids': (bytes) => text(SPANS, '{"spanId":"1"},', bytes, `{}${SPANS_END}`),
};

const SPANS = '{"resourceSpans":[{"scopeSpans":[{"spans":[';
const SPANS_END = ']}]}]}';

function resource(fields: Buffer): Buffer {
  return messageField(1, [fields]);
}

function spans(fields: Buffer): Buffer {
  return resource(messageField(2, [fields]));
}

function span(fields: Buffer): Buffer {
  return spans(messageField(2, [fields]));
}

function attribute(number: number, key: string, value: Buffer): Buffer {
  return messageField(number, [stringField(1, key), messageField(2, [value])]);
}

function nestedArrays(depth: number, value: Buffer): Buffer {
  let nested = value;
  for (let level = 0; level < depth; level++) nested = messageField(5, [messageField(1, [nested])]);
  return nested;
}

function nestedKvlists(depth: number, value: Buffer): Buffer {
  let nested = value;
  for (let level = 0; level < depth; level++) nested = messageField(6, [attribute(1, 'k', nested)]);
  return nested;
}

function repeated(field: Buffer, bytes: number): Buffer {
  return Buffer.alloc(Math.floor(bytes / field.length) * field.length, field);
}

function repeatedResource(bytes: number, fields: Buffer): Buffer {
  return repeated(Buffer.concat([tag(1, WIRE_BYTES), varint(fields.length), fields]), Math.max(bytes, fields.length + 4));
}

function numbered(bytes: number, make: (index: number) => Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let length = 0; length < bytes; length += parts.at(-1)!.length) parts.push(make(parts.length));
  return Buffer.concat(parts);
}

function text(before: string, unit: string, bytes: number, after: string): Buffer {
  return Buffer.concat([Buffer.from(before), repeated(Buffer.from(unit), bytes), Buffer.from(after)]);
}
