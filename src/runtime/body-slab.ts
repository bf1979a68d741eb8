import { freeBuffer } from './free-buffer.ts';

/** Room for the small requests of a block, more or less. */
const SLAB_BYTES = 256 * 1024;

/**
 * Memory for request bodies that are transcoded within milliseconds: the same again and again, so that it stays in the
 * processor's caches, and V8 has no buffers to make and to collect. What is released can be used again when all of the slab is
 * released. A body for which there is no room gets a buffer of its own.
 */
class BodySlab {
  private readonly slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  /** Bytes from the beginning of the slab on that are in use, or behind them. */
  private taken = 0;
  private users = 0;

  /** Memory of `length` bytes. It belongs to the caller until `release`. */
  alloc(length: number): Buffer {
    // The whole slab is never given away: `freeBuffer` would free it.
    if (this.taken + length >= SLAB_BYTES) return Buffer.allocUnsafeSlow(length);
    const begin = this.taken;
    this.taken += length;
    this.users++;
    return this.slab.subarray(begin, this.taken);
  }

  /** Takes back what `alloc` returned, once. Frees memory that is not from the slab. */
  release(memory: Uint8Array): void {
    if (memory.buffer !== this.slab.buffer) freeBuffer(memory);
    else if (--this.users === 0) this.taken = 0;
  }
}

/** Of this thread. */
export const bodySlab = new BodySlab();
