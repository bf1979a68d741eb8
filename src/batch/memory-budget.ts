import type { MemoryPressure } from './memory-pressure.ts';
import { Watermark } from './watermark.ts';

/** Fill at which new requests are refused, and below which they are taken again. */
const HIGH_MARK = 0.9;
const LOW_MARK = 0.7;

/** Counts the bytes that requests and blocks hold in memory, against a limit; and has an eye on what the process takes in fact. */
export class MemoryBudget {
  readonly limitBytes: number;
  usedBytes = 0;
  private readonly pressure: MemoryPressure | undefined;
  private readonly watermark = new Watermark(HIGH_MARK, LOW_MARK);

  constructor(limitBytes: number, pressure?: MemoryPressure) {
    this.limitBytes = limitBytes;
    this.pressure = pressure;
  }

  /** True from the high mark on, until the use is below the low mark again; and while the process nears its own limit. */
  get isFull(): boolean {
    return this.watermark.isAbove(this.usedBytes / this.limitBytes) || this.pressure?.isHigh === true;
  }

  /** Bytes until the high mark; negative beyond it. */
  get freeBytes(): number {
    return this.limitBytes * HIGH_MARK - this.usedBytes;
  }

  /** Takes `bytes` if they are within the limit; false, and nothing taken, if not. */
  reserve(bytes: number): boolean {
    if (this.usedBytes + bytes > this.limitBytes || this.pressure?.isHigh === true) return false;
    this.usedBytes += bytes;
    return true;
  }

  /** Takes `bytes` even beyond the limit: for what was accounted for in another form before. */
  add(bytes: number): void {
    this.usedBytes += bytes;
  }

  release(bytes: number): void {
    this.usedBytes -= bytes;
  }
}
