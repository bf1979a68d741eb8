import { MalformedRequest } from '../bytes/malformed-request.ts';
import { type JsonCursor, LETTER_N, MINUS, QUOTE, ZERO } from './json-cursor.ts';

const INT64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n };
const NUMBER = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;
/** Twenty digits hold every 64-bit integer. Longer ones, after leading zeros, are refused. */
const MAX_DIGITS = 40;
const MAX_UINT64 = 2n ** 64n - 1n;

/** Reads a number, quoted or not; its text is then at `cursor.start`. @returns false for null */
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

/** Whether the last text is an int64 in its stored form: decimal digits, without a leading zero. */
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
 * The last number as an int64, in any form (also 1e3 and 2.0), or as a double if it is not one: the JavaScript SDK writes every
 * whole number as intValue, even 1e+21.
 * @throws MalformedRequest when the text is not a number
 */
export function int64OrDouble(cursor: JsonCursor): bigint | number {
  const text = cursor.text();
  if (!NUMBER.test(text)) throw isNot(cursor, text, 'a number');
  const value = parseInteger(text);
  return value === undefined || value < INT64.min || value > INT64.max ? Number(text) : value;
}

/** The last UInt64, as two signed 32-bit halves. */
export const lastUint64 = { low: 0, high: 0 };

/** Reads a UInt64, quoted or not, into `lastUint64`. Null is 0. @throws MalformedRequest when it is something else */
export function readUint64(cursor: JsonCursor): void {
  if (readNanoseconds(cursor)) return;
  lastUint64.low = 0;
  lastUint64.high = 0;
  if (!readNumber(cursor)) return;
  const value = uint64(cursor);
  lastUint64.low = Number(BigInt.asIntN(32, value));
  lastUint64.high = Number(BigInt.asIntN(32, value >> 32n));
}

/** Reads a string of 19 digits fast: nanoseconds since 1970 have as many until 2286. @returns false for others; then nothing is read */
function readNanoseconds(cursor: JsonCursor): boolean {
  const { bytes, view } = cursor.source;
  const start = cursor.at + 1;
  if (bytes[cursor.at] !== QUOTE || bytes[start + 19] !== QUOTE) return false;
  const first = fourDigits(view.getInt32(start, true));
  const second = fourDigits(view.getInt32(start + 4, true));
  const third = fourDigits(view.getInt32(start + 8, true));
  const fourth = fourDigits(view.getInt32(start + 12, true));
  // The quote in the last word is replaced by a zero: the result is ten times the last three digits.
  const fifth = fourDigits((view.getInt32(start + 16, true) & 0xff_ffff) | 0x3000_0000);
  if ((first | second | third | fourth | fifth) < 0) return false;
  cursor.at = start + 20;
  const hundreds = (third / 100) | 0;
  setNanoseconds(first * 1_000_000 + second * 100 + hundreds, (third - hundreds * 100) * 10_000_000 + fourth * 1000 + fifth / 10);
  return true;
}

/** The value of four ASCII digits in a little-endian word. Negative if they are not digits. */
function fourDigits(word: number): number {
  const digits = (word - 0x30303030) | 0;
  if (((digits | (digits + 0x76767676)) & 0x80808080) !== 0) return -1;
  // Two digits a byte, in the first and in the third; then all four.
  const pairs = Math.imul(digits, 10) + (digits >>> 8);
  return (pairs & 0xff) * 100 + ((pairs >>> 16) & 0xff);
}

/** The last number of seconds, and the halves of the same time in nanoseconds: most times of a request are in the same second. */
let lastSeconds = 0;
let lastLow = 0;
let lastHigh = 0;

/** Sets `lastUint64` to seconds × 10^9 + nanoseconds, in steps that stay below 2^53. */
function setNanoseconds(seconds: number, nanoseconds: number): void {
  if (seconds !== lastSeconds) {
    const upper = Math.floor(seconds / 0x1_0000) * 1e9;
    const lower = (seconds % 0x1_0000) * 1e9;
    const low = (upper % 0x1_0000) * 0x1_0000 + (lower % 0x1_0000_0000);
    lastSeconds = seconds;
    lastLow = low % 0x1_0000_0000;
    lastHigh = Math.floor(upper / 0x1_0000) + Math.floor(lower / 0x1_0000_0000) + Math.floor(low / 0x1_0000_0000);
  }
  const low = lastLow + nanoseconds;
  lastUint64.low = low | 0;
  lastUint64.high = (lastHigh + (low >= 0x1_0000_0000 ? 1 : 0)) | 0;
}

/** The last text as a double: a number, or NaN, Infinity, -Infinity. @throws MalformedRequest when it is something else */
export function double(cursor: JsonCursor): number {
  const text = cursor.text();
  if (NUMBER.test(text)) return Number(text);
  if (text === 'NaN' || text === 'Infinity' || text === '-Infinity') return Number(text);
  throw isNot(cursor, text, 'a number');
}

function uint64(cursor: JsonCursor): bigint {
  const text = cursor.text();
  const value = parseInteger(text);
  if (value === undefined || value < 0n || value > MAX_UINT64) throw isNot(cursor, text, `an integer from 0 to ${MAX_UINT64}`);
  return value;
}

function isNot(cursor: JsonCursor, text: string, what: string): MalformedRequest {
  return new MalformedRequest(`${JSON.stringify(text.slice(0, 40))} at byte ${cursor.start - cursor.begin} is not ${what}`);
}

/** The integer that a number is, with all digits, also of 1e3 or 2.0, as protobuf's JSON mapping allows. Undefined with a fraction. */
function parseInteger(text: string): bigint | undefined {
  const match = NUMBER.exec(text);
  if (match === null) return undefined;
  const [, sign, whole, fraction = '', exponent = '0'] = match;
  const digits = (whole + fraction).replace(/^0+/, '');
  if (digits === '') return 0n;
  const zeros = Number(exponent) - fraction.length;
  const length = digits.length + zeros;
  if (length < 1 || length > MAX_DIGITS || /[1-9]/.test(digits.slice(length))) return undefined;
  return BigInt(sign + digits.slice(0, length).padEnd(length, '0'));
}
