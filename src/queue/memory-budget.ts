import type { MemoryPressure } from './memory-pressure.ts';
import { isAbove } from './watermark.ts';

/** Fill from which new requests are refused, and below which they are accepted again. */
const HIGH_MARK = 0.9;
const LOW_MARK = 0.7;

/** The limit that is reached: that of the budget (MEM_BUFFER_SIZE_MB), or the memory limit of the process. */
export type MemoryShortage = 'memory' | 'process_memory';

/** The bytes that are counted. */
export abstract class HeldBytes {
  /** All of them: reserved, added, and not released. */
  abstract readonly total: number;
  /** Whether the budget counts as full. */
  abstract isFull: boolean;
  /** Counts `bytes` more, or less. */
  abstract add(bytes: number): void;
}

class OwnBytes extends HeldBytes {
  total = 0;
  isFull = false;

  add(bytes: number): void {
    this.total += bytes;
  }
}

/** Counts the bytes that requests and blocks hold in memory against a limit, and checks the resident memory of the process. */
export class MemoryBudget {
  readonly limitBytes: number;
  private readonly pressure: MemoryPressure | undefined;
  private readonly held: HeldBytes;

  constructor(limitBytes: number, pressure?: MemoryPressure, held: HeldBytes = new OwnBytes()) {
    this.limitBytes = limitBytes;
    this.pressure = pressure;
    this.held = held;
  }

  get usedBytes(): number {
    return this.held.total;
  }

  /**
   * The reason to refuse a request whose body has `bytes` bytes; undefined if it may be admitted. The budget counts as full from
   * the high mark on, until its use falls below the low mark.
   */
  shortage(bytes = 0): MemoryShortage | undefined {
    const { usedBytes } = this;
    if (this.isFull(usedBytes)) return 'memory';
    return this.pressure?.admits(usedBytes + bytes) === false ? 'process_memory' : undefined;
  }

  /** Bytes left until the high mark; negative above it. */
  get freeBytes(): number {
    return this.limitBytes * HIGH_MARK - this.usedBytes;
  }

  /** The limit that is exceeded by what is counted; undefined: none. */
  exceeded(): MemoryShortage | undefined {
    const { usedBytes } = this;
    if (usedBytes > this.limitBytes) return 'memory';
    return this.pressure?.admits(usedBytes) === false ? 'process_memory' : undefined;
  }

  private isFull(usedBytes: number): boolean {
    const isFull = isAbove(usedBytes / this.limitBytes, HIGH_MARK, LOW_MARK, this.held.isFull);
    if (isFull !== this.held.isFull) this.held.isFull = isFull;
    return isFull;
  }

  /** Logs that a request was refused for `shortage`. */
  refused(shortage: MemoryShortage): void {
    if (shortage === 'process_memory') this.pressure?.refused();
  }

  /** Adds `bytes` even beyond the limit: for data that was already counted in another form. */
  add(bytes: number): void {
    this.held.add(bytes);
  }

  /** Returns reserved or added `bytes`. */
  release(bytes: number): void {
    this.held.add(-bytes);
  }
}
