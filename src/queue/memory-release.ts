import { trimMalloc } from '../runtime/malloc.ts';
import { collectGarbage } from '../runtime/v8-memory.ts';

/** Collects a thread's garbage, and releases the memory that was freed to the kernel. */
export class MemoryRelease {
  /** V8 frees buffers in a background thread after the collection: malloc is then trimmed a second time. */
  private isTrimDue = false;

  /** @param all releases memory that V8 keeps for later as well */
  start(all = false): void {
    collectGarbage(all);
    trimMalloc();
    this.isTrimDue = true;
  }

  /** Must be called some time after `start`. Without a `start` before it, it does nothing. */
  finish(): void {
    if (!this.isTrimDue) return;
    this.isTrimDue = false;
    trimMalloc();
  }
}
