/*
 * An encoder of Protobuf's wire format, independent of the library that decodes in the tests. Each function returns one whole field;
 * a message is its fields, one after the other.
 *
 *   tag = field number << 3 | wire type, a varint
 *   0 varint · 1 eight bytes · 2 length, then as many bytes · 3 … 4 a group · 5 four bytes
 */

export const WIRE_VARINT = 0;
export const WIRE_FIXED64 = 1;
export const WIRE_BYTES = 2;
export const WIRE_GROUP_START = 3;
export const WIRE_GROUP_END = 4;
export const WIRE_FIXED32 = 5;

/** @param padding bytes more than needed, for zeros in the high bits, which readers must accept; at most 10 bytes in all are written */
export function varint(value: number | bigint, padding = 0): Buffer {
  if (padding === 0 && value >= 0 && value < 0x80) return Buffer.of(Number(value));
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  for (let more = Math.min(padding, 10 - bytes.length); more > 0; more--) {
    bytes.push((bytes.pop() ?? 0) | 0x80, 0);
  }
  return Buffer.from(bytes);
}

/** The tag of a field. Field numbers are at most 2^29 − 1, wire types 0 to 5. */
export function tag(number: number, wireType: number): Buffer {
  return varint(number * 8 + wireType);
}

/** An enum, bool or integer. Negative ones take ten bytes, as int32 and int64 require. */
export function varintField(number: number, value: number | bigint, padding = 0): Buffer {
  return Buffer.concat([tag(number, WIRE_VARINT), varint(value, padding)]);
}

/** A 64-bit unsigned number, or the bits of a signed one. */
export function fixed64Field(number: number, value: bigint): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
  return Buffer.concat([tag(number, WIRE_FIXED64), bytes]);
}

/** A double. */
export function doubleField(number: number, value: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([tag(number, WIRE_FIXED64), bytes]);
}

/** A 32-bit unsigned number. */
export function fixed32Field(number: number, value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value);
  return Buffer.concat([tag(number, WIRE_FIXED32), bytes]);
}

/** Bytes, or a message that is encoded already. @param padding bytes more than needed for the length, as in varint */
export function bytesField(number: number, bytes: Uint8Array, padding = 0): Buffer {
  return Buffer.concat([tag(number, WIRE_BYTES), varint(bytes.length, padding), bytes]);
}

/** A text, in UTF-8. */
export function stringField(number: number, text: string): Buffer {
  return bytesField(number, Buffer.from(text));
}

/** An embedded message with these fields. */
export function messageField(number: number, fields: readonly Uint8Array[]): Buffer {
  return bytesField(number, Buffer.concat(fields));
}
