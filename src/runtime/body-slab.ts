import { freeBuffer } from './free-buffer.ts';

/** Room for the small requests of a block, more or less. */
const SLAB_BYTES = 256 * 1024;

/*
 * Memory for request bodies that are transcoded within milliseconds: the same again and again, so that it is in the
 * processor's caches, and V8 has no buffers to make and to collect. While any of it is in use, what is behind stays taken:
 * whoever finds no room gets memory of his own.
 */
const slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let taken = 0;
let users = 0;

/** To be given back with `giveBack`, once. */
export function shortMemory(length: number): Buffer {
  // Nobody gets the whole slab: it would look as if he could free it.
  if (taken + length >= SLAB_BYTES) return Buffer.allocUnsafeSlow(length);
  const begin = taken;
  taken += length;
  users++;
  return slab.subarray(begin, taken);
}

/** Frees memory, whether it is `shortMemory` or has been made otherwise. Empties the list: nothing is given back twice. */
export function giveBack(memories: Uint8Array[]): void {
  for (const memory of memories.splice(0)) {
    if (memory.buffer !== slab.buffer) freeBuffer(memory);
    else if (--users === 0) taken = 0;
  }
}
