import { isUtf8 } from 'node:buffer';
import protobuf from 'protobufjs/light.js';
import { ExportTraceServiceRequest } from './otlp-messages.ts';
import { bytesField, WIRE_BYTES, WIRE_VARINT } from '../generators/wire.ts';
import type { OtlpRequest } from './otlp-request.ts';

/** A request, and whether all its texts are UTF-8. */
export interface LenientRequest {
  readonly request: OtlpRequest;
  readonly isUtf8: boolean;
}

/**
 * Decodes with protobufjs, but accepts what the collector accepts:
 * - tags and lengths may take up to ten bytes, as any varint
 * - a text need not be UTF-8; here, each wrong sequence reads as U+FFFD
 * - instrumentation_library_spans, field 1000 of ResourceSpans before OTLP 0.15, are scope spans
 * - what is not stored is not parsed: the attributes of scopes, and arrays and kvlists that another value supersedes
 *
 * @throws Error when the bytes are no ExportTraceServiceRequest
 */
export function decodeLeniently(bytes: Uint8Array): LenientRequest {
  const reader = new LenientReader(storedPart(bytes, ExportTraceServiceRequest));
  const message = ExportTraceServiceRequest.decode(reader);
  const { resourceSpans } = ExportTraceServiceRequest.toObject(message, { longs: BigInt, arrays: true });
  return { request: { resourceSpans }, isUtf8: reader.isUtf8 };
}

class LenientReader extends protobuf.BufferReader {
  isUtf8 = true;

  override tag(): number {
    return this.#varint(2n ** 32n - 1n);
  }

  override size(): number {
    return this.#varint(2n ** 31n);
  }

  override string(): string {
    const text = Buffer.from(this.bytes());
    this.isUtf8 &&= isUtf8(text);
    return text.toString();
  }

  override stringVerify(): string {
    return this.string();
  }

  override skip(length?: number): protobuf.Reader {
    if (length !== undefined) return super.skip(length);
    this.#varint(2n ** 64n - 1n);
    return this;
  }

  #varint(most: bigint): number {
    let value = 0n;
    for (let shift = 0n; shift < 70n && this.pos < this.len; shift += 7n) {
      const byte = this.buf[this.pos++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte >= 0x80) continue;
      value = BigInt.asUintN(64, value);
      if (value > most) break;
      return Number(value);
    }
    throw new RangeError('a varint is too large or too long');
  }
}

/** The request with all instrumentation_library_spans as scope_spans, which have the same format. */
export function withScopeSpans(bytes: Uint8Array): Buffer {
  return Buffer.concat(
    fieldsOf(bytes).map((field) =>
      field.number === 1 && field.wireType === WIRE_BYTES
        ? bytesField(1, Buffer.concat(fieldsOf(payloadOf(field.bytes)).map(renumbered)))
        : field.bytes,
    ),
  );
}

interface RawField {
  readonly number: number;
  readonly wireType: number;
  readonly bytes: Uint8Array;
}

function renumbered({ number, wireType, bytes }: RawField): Uint8Array {
  return number === 1000 && wireType === WIRE_BYTES ? bytesField(2, payloadOf(bytes)) : bytes;
}

function fieldsOf(bytes: Uint8Array): RawField[] {
  const reader = new LenientReader(bytes);
  const fields: RawField[] = [];
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.tag();
    reader.skipType(tag & 7, 0, tag >>> 3);
    fields.push({ number: tag >>> 3, wireType: tag & 7, bytes: bytes.subarray(start, reader.pos) });
  }
  return fields;
}

interface Field {
  readonly number: number;
  readonly isKnown: boolean;
  readonly bytes: Uint8Array;
}

/** The message without the fields that are not parsed. */
function storedPart(bytes: Uint8Array, type: protobuf.Type): Buffer {
  const reader = new LenientReader(bytes);
  const fields: Field[] = [];
  /** The pieces of each embedded message: one after the other, they are the message. */
  const pieces = new Map<protobuf.Field, Uint8Array[]>();
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.tag();
    const wireType = tag & 7;
    const isLibrary = type.name === 'ResourceSpans' && tag >>> 3 === 1000 && wireType === WIRE_BYTES;
    const number = isLibrary ? 2 : tag >>> 3;
    const field = type.fieldsById[number]?.resolve();
    const isKnown = field !== undefined && wireType === wireTypeOf(field);
    if (isKnown && field.resolvedType instanceof protobuf.Type) {
      const payload = reader.bytes();
      if (type.name === 'InstrumentationScope') continue;
      if (type.name === 'AnyValue') fields.push({ number, isKnown, bytes: bytesField(number, payload) });
      else if (field.repeated) fields.push({ number, isKnown, bytes: bytesField(number, storedPart(payload, field.resolvedType)) });
      else {
        checkFields(payload);
        pieces.set(field, [...(pieces.get(field) ?? []), payload]);
      }
    } else {
      reader.skipType(wireType, 0, number);
      fields.push({ number, isKnown, bytes: bytes.subarray(start, reader.pos) });
    }
  }
  for (const [{ id: number, resolvedType }, payloads] of pieces) {
    if (resolvedType instanceof protobuf.Type)
      fields.push({ number, isKnown: true, bytes: bytesField(number, storedPart(Buffer.concat(payloads), resolvedType)) });
  }
  return Buffer.concat((type.name === 'AnyValue' ? withoutSuperseded(fields, type) : fields).map((field) => field.bytes));
}

function wireTypeOf({ type, resolvedType }: protobuf.Field): number {
  if (resolvedType instanceof protobuf.Type) return WIRE_BYTES;
  const basic: Readonly<Record<string, number>> = protobuf.types.basic;
  return resolvedType === null ? basic[type] : WIRE_VARINT;
}

/** The last member of a oneof, merged with the members of the same field directly before it. */
function withoutSuperseded(fields: readonly Field[], type: protobuf.Type): Field[] {
  const known = fields.filter(({ isKnown }) => isKnown);
  const last = known.at(-1);
  if (last === undefined) return [];
  const from = known.findLastIndex(({ number }) => number !== last.number) + 1;
  const message = type.fieldsById[last.number].resolvedType;
  if (!(message instanceof protobuf.Type)) return [last];
  const payloads = known.slice(from).map(({ bytes }) => payloadOf(bytes));
  for (const payload of payloads) checkFields(payload);
  return [{ ...last, bytes: bytesField(last.number, storedPart(Buffer.concat(payloads), message)) }];
}

/** @throws RangeError when a piece of a message ends within a field */
function checkFields(payload: Uint8Array): void {
  const reader = new LenientReader(payload);
  while (reader.pos < reader.len) {
    const tag = reader.tag();
    reader.skipType(tag & 7, 0, tag >>> 3);
  }
}

function payloadOf(field: Uint8Array): Uint8Array {
  const reader = new LenientReader(field);
  reader.tag();
  return reader.bytes();
}
