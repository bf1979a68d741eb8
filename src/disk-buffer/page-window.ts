import type { MappedFile } from './mapped-file.ts';

const WINDOW_BYTES = 8 * 1024 ** 2;

/**
 * Keeps what a position that moves through a mapped file leaves behind out of the process's memory, but for the last
 * few MB. Without, a ring that was full once would count as resident in full.
 */
export class PageWindow {
  private readonly file: MappedFile;
  private current = 0;
  private previous = 0;

  constructor(file: MappedFile) {
    this.file = file;
  }

  /** The position is at this offset now. Cheap where it is in the same window as before. */
  moveTo(offset: number): void {
    const window = offset - (offset % WINDOW_BYTES);
    if (window === this.current) return;
    // The one just left is kept: what was written there is about to be read.
    if (this.previous !== window) this.file.forget(this.previous, Math.min(this.previous + WINDOW_BYTES, this.file.bytes.length));
    this.previous = this.current;
    this.current = window;
  }
}
