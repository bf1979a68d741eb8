/** Smaller buffers are left to the garbage collector: that is cheaper. */
const LEAST_BYTES = 1024;

/**
 * Frees the memory of a buffer that is no longer used; it must not be read afterwards. Without this, V8 runs a full garbage collection
 * whenever some tens of MB of unused buffers have accumulated: a third of the CPU time at 100 MB of bodies a second. A buffer that
 * is only a part of its ArrayBuffer, as in Node's pool, is not freed.
 */
export function freeBuffer({ buffer, byteLength }: Uint8Array): void {
  if (byteLength === buffer.byteLength && byteLength >= LEAST_BYTES && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
