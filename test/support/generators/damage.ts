import { readFileSync, writeFileSync } from 'node:fs';

/** Edits the bytes of a file from `offset` on. */
export function change(path: string, offset: number, edit: (bytes: Buffer) => void): void {
  const bytes = readFileSync(path);
  edit(bytes.subarray(offset));
  writeFileSync(path, bytes);
}

/** Inverts one bit of the first byte. */
export function flip(bytes: Buffer): void {
  bytes[0] ^= 0x10;
}
