import type { ByteBuffer } from './byte-buffer.ts';

/** Appends a signed 64-bit integer, given as two's complement halves, in decimal. */
export function writeInt64(out: ByteBuffer, low: number, high: number): void {
  if (high === 0) return writeUint32(out, low >>> 0);
  if (high === -1 && low < 0) {
    out.byte(MINUS);
    return writeUint32(out, -low);
  }
  out.ascii(((BigInt(high) << 32n) | BigInt(low >>> 0)).toString());
}

function writeUint32(out: ByteBuffer, value: number): void {
  if (value < 10) return out.byte(ZERO + value);
  if (value >= 0x8000_0000) return out.ascii(String(value));
  let digits = 2;
  for (let bound = 100; value >= bound; bound *= 10) digits++;
  out.reserve(digits);
  let rest = value;
  for (let at = out.length + digits - 1; at >= out.length; at--) {
    const tens = (rest / 10) | 0;
    out.bytes[at] = ZERO + rest - tens * 10;
    rest = tens;
  }
  out.length += digits;
}

/** A double in the fewest digits that read back as the same one, without an exponent: 1e21 is 1000000000000000000000. */
export function plainDecimal(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0';
  const text = String(value);
  const e = text.indexOf('e');
  return e < 0 ? text : withoutExponent(text.slice(0, e), Number(text.slice(e + 1)));
}

function withoutExponent(mantissa: string, exponent: number): string {
  const sign = mantissa.startsWith('-') ? '-' : '';
  const [whole, fraction = ''] = mantissa.slice(sign.length).split('.');
  const digits = whole + fraction;
  const point = whole.length + exponent;
  if (point <= 0) return `${sign}0.${'0'.repeat(-point)}${digits}`;
  return `${sign}${digits.padEnd(point, '0')}`;
}

/** A double as ECMAScript prints it, but with the sign of a negative zero. */
export function collectorDecimal(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

/** A double inside a JSON document. JSON has no NaN and no infinities: they become strings, as in protobuf's JSON mapping. */
export function jsonDecimal(value: number): string {
  if (!Number.isFinite(value)) return `"${value}"`;
  return Object.is(value, -0) ? '-0' : String(value);
}

const ZERO = 0x30;
const MINUS = 0x2d;
