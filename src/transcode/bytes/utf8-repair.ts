import type { ByteBuffer } from './byte-buffer.ts';

const REPLACEMENT = [0xef, 0xbf, 0xbd] as const; // U+FFFD

/**
 * Makes text valid UTF-8. Invalid sequences become U+FFFD as in the WHATWG's decoder (TextDecoder, Buffer.toString): one for each maximal
 * part of a character, and one for each other invalid byte. ClickHouse's JSON columns accept only UTF-8.
 * @returns the bytes themselves, if they are UTF-8; else a copy of at most three times their length
 */
export function repairUtf8(bytes: Uint8Array): Uint8Array {
  const length = repairedLength(bytes, 0, bytes.length);
  if (length < 0) return bytes;
  const repaired = new Uint8Array(length);
  writeRepaired(bytes, 0, bytes.length, repaired, 0);
  return repaired;
}

/** The length in bytes of `bytes[start, end)` once it is repaired, or -1 if it is UTF-8. */
export function repairedLength(bytes: Uint8Array, start: number, end: number): number {
  let length = 0;
  let isUtf8 = true;
  for (let at = start; at < end;) {
    const size = sequence(bytes, at, end);
    if (size > 0) {
      length += size;
      at += size;
    } else {
      isUtf8 = false;
      length += REPLACEMENT.length;
      at -= size;
    }
  }
  return isUtf8 ? -1 : length;
}

/** Writes `bytes[start, end)`, repaired, to `out` from `to` on, where `repairedLength` bytes must be free. */
function writeRepaired(bytes: Uint8Array, start: number, end: number, out: Uint8Array, to: number): void {
  let write = to;
  for (let at = start; at < end;) {
    const size = sequence(bytes, at, end);
    if (size > 0) {
      for (let i = 0; i < size; i++) out[write++] = bytes[at++];
    } else {
      out[write++] = REPLACEMENT[0];
      out[write++] = REPLACEMENT[1];
      out[write++] = REPLACEMENT[2];
      at -= size;
    }
  }
}

/** Appends `length` bytes of `source`, repaired. @param repaired the result of `repairedLength` for them */
export function appendRepaired(out: ByteBuffer, source: ByteBuffer, start: number, length: number, repaired: number): void {
  out.reserve(repaired);
  writeRepaired(source.bytes, start, start + length, out.bytes, out.length);
  out.length += repaired;
}

/**
 * The length of the character at `at`. If there is none, the negative length of its maximal part (Unicode 3.9, table 3-7): as many
 * bytes as some character begins with, at least one.
 */
function sequence(bytes: Uint8Array, at: number, end: number): number {
  const lead = bytes[at];
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return -1;
  const size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // No overlong forms, no surrogates, nothing above U+10FFFF.
  const least = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const most = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  if (at + 1 >= end || bytes[at + 1] < least || bytes[at + 1] > most) return -1;
  for (let i = 2; i < size; i++) if (at + i >= end || (bytes[at + i] & 0xc0) !== 0x80) return -i;
  return size;
}
