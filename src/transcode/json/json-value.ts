import { writeBytes, type AttributeValue } from '../bytes/attribute-value.ts';
import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { addMember, closeObject, writeItem, writeJsonString, type JsonMember } from '../bytes/json-text.ts';
import { MAX_DEPTH, MalformedRequest } from '../bytes/malformed-request.ts';
import { jsonDecimal } from '../bytes/number-text.ts';
import type { Dialect } from '../columns/dialect.ts';
import { BRACKET, LETTER_F, LETTER_T, QUOTE, unescape, type JsonCursor } from './json-cursor.ts';
import { END, JsonFieldNames } from './json-field-names.ts';
import { double, int64OrDouble, isPlainInt64, readNumber } from './json-number.ts';

/**
 * AnyValue, common.proto, a oneof: of several fields the last one that is not null is the value. A null removes the value that the
 * same field had before.
 */
const ANY_VALUE = new JsonFieldNames({
  stringValue: 1,
  boolValue: 2,
  intValue: 3,
  doubleValue: 4,
  arrayValue: 5,
  kvlistValue: 6,
  bytesValue: 7,
});
/** ArrayValue and KeyValueList. */
const VALUES = new JsonFieldNames({ values: 1 });
/** KeyValue, common.proto. */
export const KEY_VALUE = new JsonFieldNames({ key: 1, value: 2 });

/** Reads an AnyValue as text into `value`. Arrays and kvlists become JSON documents. @throws MalformedRequest */
export function readAnyValue(cursor: JsonCursor, dialect: Dialect, value: AttributeValue): void {
  if (cursor.isNull()) return;
  let last = 0;
  for (let field = ANY_VALUE.first(cursor); field !== END; field = ANY_VALUE.next(cursor)) {
    if (field === 0) {
      cursor.skip();
    } else if (!cursor.isNull()) {
      value.clear();
      readField(cursor, field, dialect, value);
      last = field;
    } else if (field === last) {
      value.clear();
    }
  }
}

function readField(cursor: JsonCursor, field: number, dialect: Dialect, value: AttributeValue): void {
  switch (field) {
    case 1:
      readString(cursor);
      if (!cursor.escaped) return value.set(cursor.source, cursor.start, cursor.length);
      break;
    case 2: {
      const length = readBool(cursor) ? 4 : 5;
      return value.set(cursor.source, cursor.at - length, length);
    }
    case 3:
      readNumber(cursor);
      if (isPlainInt64(cursor)) return value.set(cursor.source, cursor.start, cursor.length);
      return value.setAscii(integerText(cursor, dialect.double));
    case 4:
      readNumber(cursor);
      return value.setAscii(dialect.double(double(cursor)));
    default:
  }
  const { scratch } = value;
  if (field === 1) unescape(scratch, cursor.source, cursor.start, cursor.length);
  else if (field === 5) writeArray(scratch, cursor, dialect, 1);
  else if (field === 6) writeKvlist(scratch, cursor, dialect, 1);
  else writeBase64(scratch, cursor, dialect);
  value.setScratch(0);
}

/** ArrayValue: 1 values: AnyValue[] */
function writeArray(out: ByteBuffer, cursor: JsonCursor, dialect: Dialect, depth: number): void {
  const before = out.length;
  out.ascii('[');
  eachOfValues(
    cursor,
    depth,
    () => {
      const first = out.length === before + 1;
      writeItem(out, first, () => writeJsonValue(out, cursor, dialect, depth));
    },
    () => {
      out.length = before + 1;
    },
  );
  out.ascii(']');
}

/** KeyValueList: 1 values: KeyValue[] */
function writeKvlist(out: ByteBuffer, cursor: JsonCursor, dialect: Dialect, depth: number): void {
  const before = out.length;
  let members: JsonMember[] = [];
  out.ascii('{');
  eachOfValues(
    cursor,
    depth,
    () => {
      writeItem(out, members.length === 0, () => writeMember(out, cursor, dialect, depth, members));
    },
    () => {
      out.length = before + 1;
      members = [];
    },
  );
  closeObject(out, members, dialect.goJson);
}

/** Calls `item` at each item of `values`, and `restart` before each list: of two lists, the last one counts. */
function eachOfValues(cursor: JsonCursor, depth: number, item: () => void, restart: () => void): void {
  if (depth > MAX_DEPTH) throw new MalformedRequest(`attribute values are nested deeper than ${MAX_DEPTH}`);
  for (let field = VALUES.first(cursor); field !== END; field = VALUES.next(cursor)) {
    if (field === 0) {
      cursor.skip();
      continue;
    }
    restart();
    if (cursor.isNull() || !cursor.open(BRACKET)) continue;
    do item();
    while (cursor.more(BRACKET));
  }
}

const movedValue = new ByteBuffer(256);

/** Writes a KeyValue as a member: the value first, as it may come before the key, then moved. @returns whether it is written */
function writeMember(out: ByteBuffer, cursor: JsonCursor, dialect: Dialect, depth: number, members: JsonMember[]): boolean {
  const start = out.length;
  let keyStart = 0;
  let keyLength = 0;
  let keyEscaped = false;
  let present = false;
  for (let field = KEY_VALUE.first(cursor); field !== END; field = KEY_VALUE.next(cursor)) {
    if (field === 1) {
      const given = !cursor.isNull();
      if (given) readString(cursor);
      keyStart = cursor.start;
      keyLength = given ? cursor.length : 0;
      keyEscaped = given && cursor.escaped;
    } else if (field === 2) {
      out.length = start;
      present = writeJsonValue(out, cursor, dialect, depth);
    } else {
      cursor.skip();
    }
  }
  if (out.length === start) {
    if (!dialect.keepEmptyValues) return false;
    out.ascii('null');
    present = true;
  }
  movedValue.length = 0;
  movedValue.copy(out, start, out.length - start);
  out.length = start;
  writeText(out, cursor.source, keyStart, keyLength, keyEscaped, dialect);
  const keyEnd = out.length;
  out.ascii(':');
  out.append(movedValue);
  movedValue.reset();
  addMember(members, { start, keyEnd, end: out.length });
  return present;
}

/** Writes an AnyValue as JSON of the same type. @returns false, without output, if it has no value and the dialect leaves those out */
function writeJsonValue(out: ByteBuffer, cursor: JsonCursor, dialect: Dialect, depth: number): boolean {
  const start = out.length;
  let last = 0;
  for (let field = cursor.isNull() ? END : ANY_VALUE.first(cursor); field !== END; field = ANY_VALUE.next(cursor)) {
    if (field === 0) {
      cursor.skip();
    } else if (!cursor.isNull()) {
      out.length = start;
      writeJsonField(out, cursor, field, dialect, depth);
      last = field;
    } else if (field === last) {
      out.length = start;
    }
  }
  if (out.length > start) return true;
  if (dialect.keepEmptyValues) out.ascii('null');
  return dialect.keepEmptyValues;
}

function writeJsonField(out: ByteBuffer, cursor: JsonCursor, field: number, dialect: Dialect, depth: number): void {
  switch (field) {
    case 1:
      readString(cursor);
      return writeText(out, cursor.source, cursor.start, cursor.length, cursor.escaped, dialect);
    case 2:
      return out.ascii(readBool(cursor) ? 'true' : 'false');
    case 3:
      readNumber(cursor);
      return out.ascii(integerText(cursor, jsonDecimal));
    case 4:
      readNumber(cursor);
      return out.ascii(jsonDecimal(double(cursor)));
    case 5:
      return writeArray(out, cursor, dialect, depth + 1);
    case 6:
      return writeKvlist(out, cursor, dialect, depth + 1);
    default:
      out.ascii('"');
      writeBase64(out, cursor, dialect);
      out.ascii('"');
  }
}

const unescapedText = new ByteBuffer(256);

/** Writes the raw text of a JSON string as a JSON string, with the dialect's escapes. */
function writeText(out: ByteBuffer, source: ByteBuffer, start: number, length: number, escaped: boolean, dialect: Dialect): void {
  if (!escaped) return writeJsonString(out, source, start, length, dialect.goJson);
  unescapedText.length = 0;
  unescape(unescapedText, source, start, length);
  writeJsonString(out, unescapedText, 0, unescapedText.length, dialect.goJson);
  unescapedText.reset();
}

/** Reads a string; its raw text is then at `cursor.start`. @throws MalformedRequest when it is something else */
export function readString(cursor: JsonCursor): void {
  if (cursor.peek() !== QUOTE) throw cursor.unexpected();
  cursor.string();
}

/** The last intValue as text; as a double if it is not an int64. */
function integerText(cursor: JsonCursor, decimal: (value: number) => string): string {
  const value = int64OrDouble(cursor);
  return typeof value === 'bigint' ? value.toString() : decimal(value);
}

function readBool(cursor: JsonCursor): boolean {
  const first = cursor.peek();
  if (first !== LETTER_T && first !== LETTER_F) throw cursor.unexpected();
  cursor.literal(first);
  return first === LETTER_T;
}

/** Writes a bytesValue in the dialect's form. In the request it is base64, in either alphabet (RFC 4648), padded or not. */
function writeBase64(out: ByteBuffer, cursor: JsonCursor, dialect: Dialect): void {
  readString(cursor);
  const text = cursor.text();
  let end = text.length;
  while (text[end - 1] === '=') end--;
  const digits = text.slice(0, end);
  if (digits.length % 4 === 1 || !/^[A-Za-z0-9+/_-]*$/.test(digits)) {
    throw new MalformedRequest(`a bytesValue at byte ${cursor.start - cursor.begin} is not base64`);
  }
  const bytes = ByteBuffer.from(Buffer.from(digits, 'base64'));
  writeBytes(out, bytes, 0, bytes.length, dialect.bytes);
}
