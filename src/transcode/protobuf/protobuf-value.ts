import { writeBytes, type AttributeValue } from '../bytes/attribute-value.ts';
import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { addMember, closeObject, writeItem, writeJsonString, type JsonMember } from '../bytes/json-text.ts';
import { MAX_DEPTH, MalformedRequest } from '../bytes/malformed-request.ts';
import { jsonDecimal, writeInt64 } from '../bytes/number-text.ts';
import type { Dialect } from '../columns/dialect.ts';
import { ProtobufCursor } from './protobuf-cursor.ts';

/*
 * AnyValue, common.proto, a oneof: of several fields the last one is the value.
 *   1 string_value: string    3 int_value: int64       5 array_value: ArrayValue { 1 values: AnyValue[] }
 *   2 bool_value: bool        4 double_value: double   6 kvlist_value: KeyValueList { 1 values: KeyValue[] }
 *                                                      7 bytes_value: bytes
 */

/** The bytes of a nested message until it is written: a message that is given twice is merged, so more of it may follow. */
export class Document {
  tag = 0;
  source: ByteBuffer | undefined;
  start = 0;
  end = 0;
  private merged: ByteBuffer | undefined;

  clear(): void {
    this.tag = 0;
    this.source = undefined;
    this.merged = undefined;
  }

  /**
   * Adds the message at `source[start, end)`. A second one with the same tag is merged: its bytes are appended to the first one's.
   * @throws MalformedRequest when one of them ends inside a field
   */
  add(tag: number, source: ByteBuffer, start: number, end: number): void {
    if (this.tag !== tag || this.source === undefined) {
      this.tag = tag;
      this.source = source;
      this.start = start;
      this.end = end;
      return;
    }
    if (this.source !== this.merged) {
      checkFields(this.source, this.start, this.end);
      this.merged = new ByteBuffer(this.end - this.start + end - start);
      this.merged.copy(this.source, this.start, this.end - this.start);
      this.source = this.merged;
      this.start = 0;
    }
    checkFields(source, start, end);
    this.source.copy(source, start, end - start);
    this.end = this.source.length;
  }
}

function checkFields(source: ByteBuffer, start: number, end: number): void {
  const cursor = new ProtobufCursor(source);
  cursor.at = start;
  while (cursor.at < end) cursor.skip(cursor.tag(), end);
  cursor.expectEnd(end);
}

/**
 * Reads an AnyValue up to `end`: as text into `value`, or an array or kvlist into `document`, which `writeDocument` then writes.
 * @throws MalformedRequest
 */
export function readAnyValue(cursor: ProtobufCursor, end: number, dialect: Dialect, value: AttributeValue, document: Document): void {
  while (cursor.at < end) {
    const tag = cursor.tag();
    switch (tag) {
      case 0x0a: {
        const stringEnd = cursor.fieldEnd(end);
        value.set(cursor.source, cursor.at, stringEnd - cursor.at);
        cursor.at = stringEnd;
        break;
      }
      case 0x10:
        cursor.varint();
        value.setAscii(cursor.low === 0 && cursor.high === 0 ? 'false' : 'true');
        break;
      case 0x18:
        cursor.varint();
        value.clear();
        writeInt64(value.scratch, cursor.low, cursor.high);
        value.setScratch(0);
        break;
      case 0x21:
        value.setAscii(dialect.double(cursor.double(end)));
        break;
      case 0x2a:
      case 0x32: {
        const documentEnd = cursor.fieldEnd(end);
        document.add(tag, cursor.source, cursor.at, documentEnd);
        cursor.at = documentEnd;
        value.present = true;
        continue;
      }
      case 0x3a: {
        const bytesEnd = cursor.fieldEnd(end);
        value.clear();
        writeBytes(value.scratch, cursor.source, cursor.at, bytesEnd - cursor.at, dialect.bytes);
        value.setScratch(0);
        cursor.at = bytesEnd;
        break;
      }
      default:
        cursor.skip(tag, end);
        continue;
    }
    document.tag = 0;
  }
  cursor.expectEnd(end);
}

/** Writes an array or kvlist as JSON. @throws MalformedRequest, also when values are nested deeper than MAX_DEPTH */
export function writeDocument(out: ByteBuffer, cursor: ProtobufCursor, document: Document, dialect: Dialect, depth: number): void {
  if (depth > MAX_DEPTH) throw new MalformedRequest(`attribute values are nested deeper than ${MAX_DEPTH}`);
  const { source, at } = cursor;
  cursor.source = document.source!;
  cursor.at = document.start;
  if (document.tag === 0x2a) writeArray(out, cursor, document.end, dialect, depth);
  else writeKvlist(out, cursor, document.end, dialect, depth);
  cursor.source = source;
  cursor.at = at;
}

function writeArray(out: ByteBuffer, cursor: ProtobufCursor, end: number, dialect: Dialect, depth: number): void {
  let empty = true;
  out.ascii('[');
  while (cursor.at < end) {
    const tag = cursor.tag();
    if (tag !== 0x0a) {
      cursor.skip(tag, end);
      continue;
    }
    const elementEnd = cursor.fieldEnd(end);
    if (writeItem(out, empty, () => writeJsonValue(out, cursor, elementEnd, dialect, depth))) empty = false;
  }
  cursor.expectEnd(end);
  out.ascii(']');
}

function writeKvlist(out: ByteBuffer, cursor: ProtobufCursor, end: number, dialect: Dialect, depth: number): void {
  const members: JsonMember[] = [];
  out.ascii('{');
  while (cursor.at < end) {
    const tag = cursor.tag();
    if (tag !== 0x0a) {
      cursor.skip(tag, end);
      continue;
    }
    const memberEnd = cursor.fieldEnd(end);
    writeItem(out, members.length === 0, () => writeMember(out, cursor, memberEnd, dialect, depth, members));
  }
  cursor.expectEnd(end);
  closeObject(out, members, dialect.goJson);
}

/** Writes a KeyValue (1 key: string, 2 value: AnyValue) as a member. @returns whether it is written */
function writeMember(
  out: ByteBuffer,
  cursor: ProtobufCursor,
  end: number,
  dialect: Dialect,
  depth: number,
  members: JsonMember[],
): boolean {
  let keyStart = 0;
  let keyLength = 0;
  const value = new Document();
  while (cursor.at < end) {
    const tag = cursor.tag();
    if (tag !== 0x0a && tag !== 0x12) {
      cursor.skip(tag, end);
      continue;
    }
    const fieldEnd = cursor.fieldEnd(end);
    if (tag === 0x0a) {
      keyStart = cursor.at;
      keyLength = fieldEnd - cursor.at;
    } else {
      value.add(tag, cursor.source, cursor.at, fieldEnd);
    }
    cursor.at = fieldEnd;
  }
  cursor.expectEnd(end);

  const start = out.length;
  writeJsonString(out, cursor.source, keyStart, keyLength, dialect.goJson);
  const keyEnd = out.length;
  out.ascii(':');
  const { source, at } = cursor;
  cursor.source = value.source ?? source;
  cursor.at = value.start;
  const present = writeJsonValue(out, cursor, value.end, dialect, depth);
  cursor.source = source;
  cursor.at = at;
  if (present) addMember(members, { start, keyEnd, end: out.length });
  return present;
}

/** Writes an AnyValue as JSON of the same type. @returns false, without output, if it has no value and the dialect leaves those out */
function writeJsonValue(out: ByteBuffer, cursor: ProtobufCursor, end: number, dialect: Dialect, depth: number): boolean {
  const before = out.length;
  const document = new Document();
  while (cursor.at < end) {
    const tag = cursor.tag();
    // The last field is the value: the output of an earlier one is overwritten.
    const keep = out.length;
    out.length = before;
    switch (tag) {
      case 0x0a: {
        const stringEnd = cursor.fieldEnd(end);
        writeJsonString(out, cursor.source, cursor.at, stringEnd - cursor.at, dialect.goJson);
        cursor.at = stringEnd;
        break;
      }
      case 0x10:
        cursor.varint();
        out.ascii(cursor.low === 0 && cursor.high === 0 ? 'false' : 'true');
        break;
      case 0x18:
        cursor.varint();
        writeInt64(out, cursor.low, cursor.high);
        break;
      case 0x21:
        out.ascii(jsonDecimal(cursor.double(end)));
        break;
      case 0x2a:
      case 0x32: {
        const documentEnd = cursor.fieldEnd(end);
        document.add(tag, cursor.source, cursor.at, documentEnd);
        cursor.at = documentEnd;
        continue;
      }
      case 0x3a: {
        const bytesEnd = cursor.fieldEnd(end);
        out.ascii('"');
        writeBytes(out, cursor.source, cursor.at, bytesEnd - cursor.at, dialect.bytes);
        out.ascii('"');
        cursor.at = bytesEnd;
        break;
      }
      default:
        out.length = keep;
        cursor.skip(tag, end);
        continue;
    }
    document.tag = 0;
  }
  cursor.expectEnd(end);
  if (document.tag !== 0) writeDocument(out, cursor, document, dialect, depth + 1);
  else if (out.length === before) {
    if (!dialect.keepEmptyValues) return false;
    out.ascii('null');
  }
  return true;
}
