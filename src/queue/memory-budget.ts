import type { MemoryPressure } from './memory-pressure.ts';
import { Watermark } from './watermark.ts';

/** Fill at which new requests are refused, and below which they are taken again. */
const HIGH_MARK = 0.9;
const LOW_MARK = 0.7;

/** What there is too little of: room in the budget (MEM_BUFFER_SIZE_MB), or memory below the limit of the process. */
export type MemoryShortage = 'memory' | 'process_memory';

/** Counts the bytes that requests and blocks hold in memory, against a limit; and looks at what the process takes in fact. */
export class MemoryBudget {
  readonly limitBytes: number;
  usedBytes = 0;
  private readonly pressure: MemoryPressure | undefined;
  private readonly watermark = new Watermark(HIGH_MARK, LOW_MARK);

  constructor(limitBytes: number, pressure?: MemoryPressure) {
    this.limitBytes = limitBytes;
    this.pressure = pressure;
  }

  /**
   * Why a request whose body has so many bytes may not be let in. By the budget it is full from the high mark on, until its use is below
   * the low mark again.
   */
  shortage(bytes = 0): MemoryShortage | undefined {
    if (this.watermark.isAbove(this.usedBytes / this.limitBytes)) return 'memory';
    return this.pressure?.admits(this.usedBytes + bytes) === false ? 'process_memory' : undefined;
  }

  /** Bytes until the high mark; negative beyond it. */
  get freeBytes(): number {
    return this.limitBytes * HIGH_MARK - this.usedBytes;
  }

  /** Takes `bytes`; or takes nothing, and says why not. */
  reserve(bytes: number): MemoryShortage | undefined {
    const usedBytes = this.usedBytes + bytes;
    if (usedBytes > this.limitBytes) return 'memory';
    if (this.pressure?.admits(usedBytes) === false) return 'process_memory';
    this.usedBytes = usedBytes;
    return undefined;
  }

  /** A request was refused for this shortage. */
  refused(shortage: MemoryShortage): void {
    if (shortage === 'process_memory') this.pressure?.refused();
  }

  /** Takes `bytes` even beyond the limit: for what was accounted for in another form before. */
  add(bytes: number): void {
    this.usedBytes += bytes;
  }

  release(bytes: number): void {
    this.usedBytes -= bytes;
  }
}
