import { type JsonCursor, LETTER_N, MINUS, QUOTE, ZERO } from './json-cursor.ts';
import { MalformedRequest } from './malformed-request.ts';

const INT64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n };
const NUMBER = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;
const MAX_UINT64 = 2n ** 64n - 1n;

/** Reads a number, quoted or not, as text in `cursor.start` and `cursor.length`. False for null. */
export function readNumber(cursor: JsonCursor): boolean {
  const byte = cursor.peek();
  if (byte === QUOTE) {
    cursor.string();
    return true;
  }
  if (byte === LETTER_N) {
    cursor.isNull();
    return false;
  }
  cursor.number();
  return true;
}

/** Whether the text just read is an int64 in the form it is stored in: decimal digits, without a leading zero. */
export function isPlainInt64(cursor: JsonCursor): boolean {
  const { bytes } = cursor.source;
  const end = cursor.start + cursor.length;
  let at = cursor.start;
  if (bytes[at] === MINUS) at++;
  const digits = end - at;
  // 18 digits always fit.
  if (digits < 1 || digits > 18 || (bytes[at] === ZERO && cursor.length > 1)) return false;
  for (; at < end; at++) if (bytes[at] < ZERO || bytes[at] > ZERO + 9) return false;
  return true;
}

/**
 * The text just read as an int64, whatever form of number it has; as a double if it is none: the JavaScript SDK writes
 * every whole number as intValue, 1e+21 too.
 */
export function int64OrDouble(cursor: JsonCursor): bigint | number {
  const text = cursor.text();
  if (!NUMBER.test(text)) throw new MalformedRequest(`${JSON.stringify(text.slice(0, 40))} at byte ${cursor.start} is not a number`);
  const value = parseInteger(text);
  return value === undefined || value < INT64.min || value > INT64.max ? Number(text) : value;
}

/** The halves of the UInt64 that was read last. */
export const halves = { low: 0, high: 0 };

/** Reads a UInt64 into `halves`; null is 0. */
export function readUint64(cursor: JsonCursor): void {
  if (readNanoseconds(cursor)) return;
  halves.low = 0;
  halves.high = 0;
  if (!readNumber(cursor)) return;
  const value = uint64(cursor);
  halves.low = Number(value & 0xffff_ffffn);
  halves.high = Number(value >> 32n);
}

/** Takes the short way through a string of 19 digits, as nanoseconds since 1970 have in this century. False if it is none. */
function readNanoseconds(cursor: JsonCursor): boolean {
  if (cursor.peek() !== QUOTE) return false;
  const { bytes } = cursor.source;
  const start = cursor.at + 1;
  // More than a double holds: the last nine digits and the rest each fit.
  let top = 0;
  for (let at = start; at < start + 10; at++) {
    const digit = bytes[at] - ZERO;
    if (digit < 0 || digit > 9) return false;
    top = top * 10 + digit;
  }
  let bottom = 0;
  for (let at = start + 10; at < start + 19; at++) {
    const digit = bytes[at] - ZERO;
    if (digit < 0 || digit > 9) return false;
    bottom = bottom * 10 + digit;
  }
  if (bytes[start + 19] !== QUOTE) return false;
  cursor.at = start + 20;
  combine(top, bottom);
  return true;
}

/** top × 10^9 + bottom, in steps that stay below 2^53. */
function combine(top: number, bottom: number): void {
  const upper = Math.floor(top / 0x1_0000) * 1e9;
  const lower = (top % 0x1_0000) * 1e9 + bottom;
  const low = (upper % 0x1_0000) * 0x1_0000 + (lower % 0x1_0000_0000);
  halves.low = low >>> 0;
  halves.high = Math.floor(upper / 0x1_0000) + Math.floor(lower / 0x1_0000_0000) + (low >= 0x1_0000_0000 ? 1 : 0);
}

/** The text just read as a double: a number, or the name of one that JSON can't write. */
export function double(cursor: JsonCursor): number {
  const text = cursor.text();
  if (NUMBER.test(text)) return Number(text);
  if (text === 'NaN' || text === 'Infinity' || text === '-Infinity') return Number(text);
  throw new MalformedRequest(`${JSON.stringify(text.slice(0, 40))} at byte ${cursor.start} is not a number`);
}

function uint64(cursor: JsonCursor): bigint {
  const text = cursor.text();
  const value = parseInteger(text);
  if (value === undefined || value < 0n || value > MAX_UINT64) {
    throw new MalformedRequest(`${JSON.stringify(text.slice(0, 40))} at byte ${cursor.start} is not an integer from 0 to ${MAX_UINT64}`);
  }
  return value;
}

/** Also takes 1e3 and 2.0, which protobuf's JSON mapping allows where the value is a whole number. */
function parseInteger(text: string): bigint | undefined {
  // Twenty digits and a sign hold every 64-bit integer; more zeros in front are nobody's way of writing one.
  if (/^-?\d{1,40}$/.test(text)) return BigInt(text);
  if (!NUMBER.test(text)) return undefined;
  const value = Number(text);
  return Number.isInteger(value) ? BigInt(value) : undefined;
}
