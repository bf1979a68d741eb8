import type { MappedFile } from './mapped-file.ts';

const WINDOW_BYTES = 8 * 1024 ** 2;
/** The pages of this many bytes behind the position, at most, stay in memory. */
export const KEPT_BYTES = 2 * WINDOW_BYTES;

/**
 * Follows a position that moves through a mapped file, and unloads the pages behind it, except for the last two windows (16 MB).
 * Without this, a ring that was once full would count as resident memory in full.
 */
export class PageWindow {
  private readonly file: MappedFile;
  private current = 0;
  private previous = 0;

  constructor(file: MappedFile) {
    this.file = file;
  }

  /** Sets the position to `offset`, in bytes. Cheap while it stays in the same window. */
  moveTo(offset: number): void {
    const window = offset - (offset % WINDOW_BYTES);
    if (window === this.current) return;
    // The window just left is kept: its data is about to be read.
    if (this.previous !== window) this.file.forget(this.previous, Math.min(this.previous + WINDOW_BYTES, this.file.bytes.length));
    this.previous = this.current;
    this.current = window;
  }
}
