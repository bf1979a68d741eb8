/** Smaller ones are cheaper left to the garbage collector. */
const LEAST_BYTES = 1024;

/**
 * Gives the memory of bytes that nobody needs any more back at once. Left to itself, V8 runs a full garbage collection
 * whenever some tens of MB of such buffers have gathered; at 100 MB of bodies a second that takes a third of the CPU.
 * Bytes that share their memory with others, as those of Node's pool do, are left alone.
 */
export function freeBuffer({ buffer, byteLength }: Uint8Array): void {
  if (byteLength === buffer.byteLength && byteLength >= LEAST_BYTES && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
