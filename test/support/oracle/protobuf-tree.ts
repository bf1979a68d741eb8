import protobuf from 'protobufjs/light.js';
import { ExportTraceServiceRequest } from './otlp-messages.ts';
import { tag, varint, WIRE_BYTES, WIRE_FIXED32, WIRE_FIXED64, WIRE_VARINT } from '../generators/wire.ts';

/** A field of a message, with the fields in it if it is a message itself. */
export interface WireField {
  number: number;
  wireType: number;
  /** The bytes after the tag, or after the length if the field has one. */
  payload: Buffer | WireField[];
  /** The bytes to write as its length, if not the right ones. */
  length?: Buffer;
}

/** Parses an ExportTraceServiceRequest without groups. @throws RangeError when it is not well-formed */
export function protobufTree(bytes: Buffer, type: protobuf.Type = ExportTraceServiceRequest): WireField[] {
  const reader = protobuf.Reader.create(bytes);
  const fields: WireField[] = [];
  while (reader.pos < reader.len) {
    const key = reader.uint32();
    const number = key >>> 3;
    const wireType = key & 7;
    const inner = type.fieldsById[number]?.resolve().resolvedType;
    if (wireType === WIRE_BYTES) {
      const payload = Buffer.from(reader.bytes());
      fields.push({ number, wireType, payload: inner instanceof protobuf.Type ? protobufTree(payload, inner) : payload });
    } else {
      const start = reader.pos;
      reader.skipType(wireType);
      fields.push({ number, wireType, payload: bytes.subarray(start, reader.pos) });
    }
  }
  return fields;
}

/** Encodes the fields of a message. */
export function protobufOf(fields: readonly WireField[]): Buffer {
  return Buffer.concat(fields.map(fieldBytes));
}

function fieldBytes({ number, wireType, payload, length }: WireField): Buffer {
  const bytes = Array.isArray(payload) ? protobufOf(payload) : payload;
  return Buffer.concat([tag(number, wireType), ...(wireType === WIRE_BYTES ? [length ?? varint(bytes.length)] : []), bytes]);
}

/** Unusual payloads of each wire type except groups. */
export const EDGE_PAYLOADS: readonly { wireType: number; payload: Buffer }[] = [
  ...[0, 1, 127, 128, 300, 2 ** 31, 2n ** 63n, 2n ** 64n - 1n].map((value) => ({ wireType: WIRE_VARINT, payload: varint(value) })),
  { wireType: WIRE_VARINT, payload: varint(1, 9) },
  { wireType: WIRE_VARINT, payload: Buffer.alloc(10, 0xff) },
  { wireType: WIRE_VARINT, payload: Buffer.concat([Buffer.alloc(9, 0xff), Buffer.of(0x7f)]) },
  { wireType: WIRE_VARINT, payload: Buffer.concat([Buffer.alloc(10, 0x80), Buffer.of(0)]) },
  { wireType: WIRE_FIXED64, payload: Buffer.alloc(8, 0xff) },
  { wireType: WIRE_FIXED64, payload: Buffer.alloc(8) },
  { wireType: WIRE_FIXED32, payload: Buffer.alloc(4, 0xff) },
  { wireType: WIRE_BYTES, payload: Buffer.alloc(0) },
  { wireType: WIRE_BYTES, payload: Buffer.from('text') },
  { wireType: WIRE_BYTES, payload: Buffer.of(0xff, 0xc0, 0x80) },
  { wireType: WIRE_BYTES, payload: Buffer.alloc(16, 1) },
  { wireType: WIRE_BYTES, payload: Buffer.alloc(8, 1) },
];
