import type { ByteBuffer } from './byte-buffer.ts';

const DIGITS = '0123456789abcdef';
/** By byte: its two lower-case hex digits as a little-endian 16-bit word. */
const PAIRS = Uint16Array.from({ length: 256 }, (_, byte) => DIGITS.charCodeAt(byte >> 4) | (DIGITS.charCodeAt(byte & 15) << 8));
/** By character: the hex digit that it is, in lower case; 0x80 if it is none. */
const LOWER = new Uint8Array(256).fill(0x80);
for (let i = 0; i < 16; i++) {
  LOWER[DIGITS.charCodeAt(i)] = DIGITS.charCodeAt(i);
  LOWER[DIGITS.toUpperCase().charCodeAt(i)] = DIGITS.charCodeAt(i);
}

/** Appends `length` bytes of `source` in lower-case hex. */
export function writeHex(out: ByteBuffer, source: ByteBuffer, start: number, length: number): void {
  out.reserve(length * 2);
  const from = source.view;
  const to = out.view;
  for (let i = 0, at = out.length; i < length; i++, at += 2) to.setUint16(at, PAIRS[from.getUint8(start + i)], true);
  out.length += length * 2;
}

/** Appends a Native String: `length` bytes of `source` in lower-case hex. */
export function writeHexString(out: ByteBuffer, source: ByteBuffer, start: number, length: number): void {
  out.varint(length * 2);
  writeHex(out, source, start, length);
}

/** Appends a Native String: `length` hex digits of `source` in lower case. @returns false, nothing appended, if one is not */
export function writeLowerHexString(out: ByteBuffer, source: ByteBuffer, start: number, length: number): boolean {
  const before = out.length;
  out.varint(length);
  out.reserve(length);
  const from = source.bytes;
  const to = out.bytes;
  const at = out.length;
  let invalid = 0;
  for (let i = 0; i < length; i++) {
    const digit = LOWER[from[start + i]];
    // The code of each digit is below 0x80; other characters have that bit set.
    invalid |= digit;
    to[at + i] = digit;
  }
  out.length = invalid < 0x80 ? at + length : before;
  return invalid < 0x80;
}

/** Whether `length` bytes at `start`, a multiple of four, are lower-case hex digits. */
export function isLowerHex(view: DataView, start: number, length: number): boolean {
  let all = HIGH_BITS;
  for (let at = start; at < start + length; at += 4) {
    const word = view.getInt32(at, true);
    // Added to a byte below 0x80, each number sets the high bit from one character on: '0', ':', 'a', 'g'.
    const digits = (word + 0x50505050) & ~(word + 0x46464646);
    const letters = (word + 0x1f1f1f1f) & ~(word + 0x19191919);
    all &= (digits | letters) & ~word;
  }
  return all === HIGH_BITS;
}

const HIGH_BITS = 0x80808080 | 0;
