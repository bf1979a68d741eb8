import { freeBuffer } from './free-buffer.ts';

/** About the size of the small requests of one block. */
const SLAB_BYTES = 256 * 1024;

/**
 * Memory for request bodies that are transcoded within milliseconds. The same memory is reused, so that it stays in the processor's
 * caches, and V8 allocates and collects no buffers. Released memory is reused once all bodies in the slab are released. A body that does
 * not fit gets a buffer of its own.
 */
class BodySlab {
  private readonly slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  /** The offset of the free part of the slab. */
  private taken = 0;
  private users = 0;

  /** Returns memory of `length` bytes for use until `release`. */
  alloc(length: number): Buffer {
    // A body never gets the whole slab: `freeBuffer` would free it.
    if (this.taken + length >= SLAB_BYTES) return Buffer.allocUnsafeSlow(length);
    const begin = this.taken;
    this.taken += length;
    this.users++;
    return this.slab.subarray(begin, this.taken);
  }

  /** Releases memory that `alloc` returned; must be called once. Memory outside of the slab is freed. */
  release(memory: Uint8Array): void {
    if (memory.buffer !== this.slab.buffer) freeBuffer(memory);
    else if (--this.users === 0) this.taken = 0;
  }
}

/** The only instance in this thread. */
export const bodySlab = new BodySlab();
