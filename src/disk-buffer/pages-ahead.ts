import { Logger } from '@nestjs/common';
import type { MappedFile } from './mapped-file.ts';
import { KEPT_BYTES } from './page-window.ts';

const STEP_BYTES = 4 * 1024 ** 2;
/** In place of an errno, when the system call can't be made. */
const NOT_CALLED = -1;

const LOGGER = new Logger('DiskBuffer');

/**
 * Loads the pages ahead of the head of the ring into memory, in another thread. Without this, the first write to a page stops the main
 * thread until the kernel has cleared the page or read it from the disk, with megabytes of read-ahead. No write waits for it.
 */
export class PagesAhead {
  private readonly file: MappedFile;
  private head: number;
  private loadedTo: number;
  private state: 'idle' | 'loading' | 'off' = 'idle';

  constructor(file: MappedFile, head: number) {
    this.file = file;
    this.head = head;
    this.loadedTo = firstStep(head);
  }

  /** Sets the head to `offset`, in bytes. Cheap while it is far from the end of what is loaded. */
  moveTo(offset: number): void {
    const { bytes } = this.file;
    // PageWindow has unloaded pages at the start of the file. Those that were loaded for nothing are unloaded as well.
    if (offset < this.head && this.loadedTo > KEPT_BYTES) {
      this.file.forget(this.head, Math.min(this.loadedTo, bytes.length));
      this.loadedTo = firstStep(offset);
    }
    this.head = offset;
    if (this.state !== 'idle' || this.loadedTo - offset > STEP_BYTES / 2) return;
    const from = Math.max(offset, this.loadedTo);
    const to = Math.min(from + STEP_BYTES, bytes.length);
    if (from < to) void this.load(from, to);
  }

  private async load(from: number, to: number): Promise<void> {
    this.state = 'loading';
    this.loadedTo = to;
    const errno = await this.file.load(from, to).catch(() => NOT_CALLED);
    this.state = errno === 0 ? 'idle' : 'off';
    // Of an old kernel, or of a disk whose failure the next sync reports. The ring works as well without this, only slower.
    if (errno !== 0) LOGGER.debug({ errno, msg: 'The kernel does not load pages of the disk buffer in advance' });
  }
}

/** The first step is not loaded: under low load the ring is emptied within it, and starts again at the start of the file. */
function firstStep(head: number): number {
  return head + STEP_BYTES;
}
