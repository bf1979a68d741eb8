import { openSync, readSync } from 'node:fs';
import { Logger } from '@nestjs/common';
import { trimMalloc } from '../runtime/malloc.ts';
import { collectGarbage } from '../runtime/v8-memory.ts';
import { RepeatedLine } from '../telemetry/repeated-line.ts';

const MB = 1024 ** 2;

/** Part of the limit from which on requests are let in only if the most that all in hand may take fits below `SURE_MARK`. */
const HIGH_MARK = 0.6;
/** The rest is for what is not counted: headers, connections, the kernel's sockets and page tables. */
const SURE_MARK = 0.8;
/** Part of the limit that work in hand may bring the process to. The kernel needs some for sockets and page tables. */
const MOST = 0.95;
/** What transcoding takes on the main thread: ten times the bodies and 32 MB (`mostMemory` in transcoder.ts), or a tenth of a smaller limit. */
const TIMES_BODY = 10;
const TRANSCODING_BYTES = 32 * MB;
/** A reading takes some microseconds. */
const READING_MS = 5;
/** A full collection takes some 50 ms. In vain, it is tried again after twice the time. */
const COLLECT_MS = 1_000;
const MAX_COLLECT_MS = 8_000;
/** The most where a request is refused otherwise. */
const URGENT_MS = 2_000;
/** Part of the limit. A collection that frees less was in vain, and a change that is smaller is no reason for one. */
const WORTHWHILE = 1 / 32;
const LINE_MS = 60_000;

/**
 * Whether the process is near its memory limit, by the kernel's figure. The memory budget counts bodies and blocks; buffers that
 * grow, garbage that V8 has not collected, and memory that malloc has not given back show in the kernel's figure alone.
 * Pages of files are not counted: the kernel takes them back when it needs them.
 */
export class MemoryPressure {
  readonly limitBytes: number;
  /** The most that worker threads may take for the bodies they have now. */
  promisedBytes = 0;
  private readonly read: () => number;
  private readonly highBytes: number;
  private readonly sureBytes: number;
  private readonly worthwhileBytes: number;
  private readAtMs = Number.NEGATIVE_INFINITY;
  private bytes = 0;
  /** Of bodies and blocks, when last asked. */
  private heldBytes = 0;
  private collectedAtMs = Number.NEGATIVE_INFINITY;
  private collectAfterMs = COLLECT_MS;
  /** V8 frees buffers in a thread of its own, after the collection that found them: malloc is trimmed once more then. */
  private isTrimDue = false;
  /** The lowest reading since the last collection, and what work in hand could take then. */
  private leftBytes = 0;
  private workThenBytes = 0;
  /** Frees what is kept for later use. */
  private readonly spare: (() => void)[] = [];
  private readonly line = new RepeatedLine(
    new Logger('Memory'),
    'warn',
    'Requests are refused: the process is near its memory limit',
    LINE_MS,
  );

  /** @param read what the process takes, in bytes; the kernel's figure unless given */
  constructor(limitBytes: number, read = residentBytes()) {
    this.limitBytes = limitBytes;
    this.read = read;
    this.highBytes = limitBytes * HIGH_MARK;
    this.sureBytes = limitBytes * SURE_MARK - Math.min(TRANSCODING_BYTES, limitBytes / 10);
    this.worthwhileBytes = limitBytes * WORTHWHILE;
  }

  /** What the process takes now, without the pages of files. */
  get residentBytes(): number {
    this.look();
    return this.bytes;
  }

  /** Has `free` called when memory runs short. It may take away what can be made again. */
  onHigh(free: () => void): void {
    this.spare.push(free);
  }

  /**
   * Whether requests may be let in. Above the high mark only few are: memory that malloc can't give back, or a small limit, may
   * keep the process there for good, and it still has to take spans.
   * @param heldBytes of all bodies and blocks, those of the new request counted
   */
  admits(heldBytes: number): boolean {
    this.heldBytes = heldBytes;
    const isNew = this.look();
    if (this.bytes <= this.highBytes) return true;
    if (isNew) this.collect(!this.isSure(heldBytes));
    return this.bytes <= this.highBytes || this.isSure(heldBytes);
  }

  private isSure(heldBytes: number): boolean {
    return this.bytes + this.workBytes(heldBytes) <= this.sureBytes;
  }

  /** The most that work in hand takes. */
  private workBytes(heldBytes: number): number {
    return this.promisedBytes + TIMES_BODY * heldBytes;
  }

  /** To be called now and then: connections and headers take memory, too, and ask nobody. */
  watch(): void {
    if (this.isTrimDue) {
      this.isTrimDue = false;
      trimMalloc();
    }
    if (this.look() && this.bytes > this.highBytes) this.collect(false);
  }

  /** Whether work that is let in already may take so many bytes more. */
  hasRoomFor(bytes: number): boolean {
    const mark = this.limitBytes * MOST - bytes;
    const isNew = this.look();
    if (isNew && this.bytes > mark) this.collect(true);
    return this.bytes <= mark;
  }

  /** A request was refused for it. */
  refused(): void {
    this.line.write({
      residentMb: Math.round(this.bytes / MB),
      limitMb: Math.round(this.limitBytes / MB),
      heldMb: Math.round(this.heldBytes / MB),
    });
  }

  /** @returns whether the reading is a new one */
  private look(): boolean {
    const nowMs = performance.now();
    if (nowMs - this.readAtMs < READING_MS) return false;
    this.bytes = this.read();
    this.readAtMs = nowMs;
    this.leftBytes = Math.min(this.leftBytes, this.bytes);
    return true;
  }

  /** @param isUrgent something is refused otherwise */
  private collect(isUrgent: boolean): void {
    const sinceMs = this.readAtMs - this.collectedAtMs;
    if (sinceMs < COLLECT_MS) return;
    const isChanged =
      this.bytes > this.leftBytes + this.worthwhileBytes || this.workBytes(this.heldBytes) < this.workThenBytes - this.worthwhileBytes;
    if (!isChanged && sinceMs < (isUrgent ? Math.min(this.collectAfterMs, URGENT_MS) : this.collectAfterMs)) return;
    const before = this.bytes;
    for (const free of this.spare) free();
    collectGarbage();
    trimMalloc();
    this.bytes = this.read();
    this.readAtMs = this.collectedAtMs = performance.now();
    this.isTrimDue = true;
    this.leftBytes = this.bytes;
    this.workThenBytes = this.workBytes(this.heldBytes);
    const isVain = before - this.bytes < this.worthwhileBytes;
    this.collectAfterMs = isVain ? Math.min(2 * this.collectAfterMs, MAX_COLLECT_MS) : COLLECT_MS;
  }
}

/** Reads what the kernel counts of this process: resident pages, without those of files, in bytes. */
export function residentBytes(): () => number {
  let fd: number;
  try {
    fd = openSync('/proc/self/statm', 'r');
  } catch {
    return () => process.memoryUsage.rss();
  }
  const text = Buffer.alloc(256);
  /** size resident shared text lib data dirty, in pages. */
  const pages = () =>
    text
      .toString('latin1', 0, readSync(fd, text, 0, text.length, 0))
      .split(' ')
      .map(Number);
  // The kernel's page size, which Node does not tell: a power of two.
  const pageBytes = 2 ** Math.round(Math.log2(process.memoryUsage.rss() / pages()[1]));
  return () => {
    const [, resident, shared] = pages();
    return (resident - shared) * pageBytes;
  };
}
