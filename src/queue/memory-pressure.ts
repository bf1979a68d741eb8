import { openSync, readSync } from 'node:fs';
import { Logger } from '@nestjs/common';
import { RepeatedLine } from '../telemetry/repeated-line.ts';
import { IdleMemory } from './idle-memory.ts';
import { MemoryRelease } from './memory-release.ts';

const MB = 1024 ** 2;

/** Fraction of the limit above which a request is admitted only if the worst case of all work in flight fits below `SURE_MARK`. */
const HIGH_MARK = 0.6;
/** Fraction of the limit; the rest is for memory that is not counted: headers, connections, the kernel's sockets and page tables. */
const SURE_MARK = 0.8;
/** Fraction of the limit that work in flight may use. The kernel needs the rest for sockets and page tables. */
const MOST = 0.95;
/**
 * Memory of transcoding on the main thread: ten times the bodies plus 32 MB (`mostMemory` in transcoder.ts); for the 32 MB, at most
 * a tenth of the limit.
 */
const TIMES_BODY = 10;
const TRANSCODING_BYTES = 32 * MB;
/** A reading is reused for this long, as each takes some microseconds; longer if the process can't have reached the mark meanwhile. */
const READING_MS = 5;
const LONG_READING_MS = 100;
/** Upper bound of the rate at which a process can fill memory. */
const MOST_BYTES_PER_MS = 8 * MB;
/** Least time between two full collections: each takes some 50 ms. It doubles after a collection that frees too little. */
const COLLECT_MS = 1_000;
const MAX_COLLECT_MS = 8_000;
/** Upper limit of that time while requests would be refused otherwise. */
const URGENT_MS = 2_000;
/** Fraction of the limit. A collection that frees less has failed; a smaller change does not start one. */
const WORTHWHILE = 1 / 32;
const LINE_MS = 60_000;
/** How often the memory is checked: connections that send only headers take up to 50 MB a second, uncounted (docs/security.md). */
const WATCH_MS = 500;

/**
 * Compares the resident memory of the process, as the kernel reports it, with the memory limit. The memory budget counts only
 * bodies and blocks; growing buffers, garbage that V8 has not collected and memory that malloc has not released show only in the
 * kernel's figure. Pages of files are not counted: the kernel reclaims them when it needs to.
 */
export class MemoryPressure {
  readonly limitBytes: number;
  /** Worst-case memory of the worker threads for the bodies that they transcode now, in bytes. */
  promisedBytes = 0;
  private readonly read: () => number;
  private readonly highBytes: number;
  private readonly sureBytes: number;
  private readonly worthwhileBytes: number;
  private readAtMs = Number.NEGATIVE_INFINITY;
  private bytes = 0;
  /** Bytes of bodies and blocks at the last call of `admits`. */
  private heldBytes = 0;
  private collectedAtMs = Number.NEGATIVE_INFINITY;
  private collectAfterMs = COLLECT_MS;
  private readonly release = new MemoryRelease();
  /** The lowest reading since the last collection, and the worst case of the work in flight at that collection. */
  private leftBytes = 0;
  private workThenBytes = 0;
  /** Functions that free caches. */
  private readonly spare: (() => void)[] = [];
  private readonly line = new RepeatedLine(
    new Logger('Memory'),
    'warn',
    'Requests are refused: the process is near its memory limit',
    LINE_MS,
  );

  /** @param read returns the resident memory of the process in bytes; by default the kernel's figure */
  constructor(limitBytes: number, read = residentBytes()) {
    this.limitBytes = limitBytes;
    this.read = read;
    this.highBytes = limitBytes * HIGH_MARK;
    this.sureBytes = limitBytes * SURE_MARK - Math.min(TRANSCODING_BYTES, limitBytes / 10);
    this.worthwhileBytes = limitBytes * WORTHWHILE;
  }

  /** Resident memory of the process now, in bytes, without the pages of files. */
  get residentBytes(): number {
    this.look(0);
    return this.bytes;
  }

  /** Registers a function that is called when memory runs short, to free what can be recreated. */
  onHigh(free: () => void): void {
    this.spare.push(free);
  }

  /**
   * Whether a request may be admitted. Above the high mark only few are: memory that malloc can't release, or a small limit, may
   * keep the process there permanently, and it still has to accept spans.
   * @param heldBytes bytes of all bodies and blocks, the new request included
   */
  admits(heldBytes: number): boolean {
    this.heldBytes = heldBytes;
    const isNew = this.look(this.highBytes);
    if (this.bytes <= this.highBytes) return true;
    if (isNew) this.collect(!this.isSure(heldBytes));
    return this.bytes <= this.highBytes || this.isSure(heldBytes);
  }

  private isSure(heldBytes: number): boolean {
    return this.bytes + this.workBytes(heldBytes) <= this.sureBytes;
  }

  /** Worst-case memory of the work in flight, in bytes. */
  private workBytes(heldBytes: number): number {
    return this.promisedBytes + TIMES_BODY * heldBytes;
  }

  /** Calls `watch` regularly from now on, and releases memory whenever this thread is idle. */
  start(): void {
    const idle = new IdleMemory(this.read);
    setInterval(() => {
      this.watch();
      idle.check();
    }, WATCH_MS).unref();
  }

  /** To be called periodically: connections and headers take memory too, without calling `admits`. */
  watch(): void {
    this.release.finish();
    if (this.look(this.highBytes) && this.bytes > this.highBytes) this.collect(false);
  }

  /** Whether work that is already admitted may take `bytes` more. */
  hasRoomFor(bytes: number): boolean {
    const mark = this.limitBytes * MOST - bytes;
    const isNew = this.look(mark);
    if (isNew && this.bytes > mark) this.collect(true);
    return this.bytes <= mark;
  }

  /** Logs that a request was refused because of the memory of the process. */
  refused(): void {
    this.line.write({
      residentMb: Math.round(this.bytes / MB),
      limitMb: Math.round(this.limitBytes / MB),
      heldMb: Math.round(this.heldBytes / MB),
    });
  }

  /** Reads the resident memory, unless the last reading is recent or tells that it is still below `mark`. @returns whether it was read */
  private look(mark: number): boolean {
    const nowMs = performance.now();
    const ageMs = nowMs - this.readAtMs;
    if (ageMs < READING_MS || (ageMs < LONG_READING_MS && this.bytes + ageMs * MOST_BYTES_PER_MS < mark)) return false;
    this.bytes = this.read();
    this.readAtMs = nowMs;
    this.leftBytes = Math.min(this.leftBytes, this.bytes);
    return true;
  }

  /** Runs a full collection and trims malloc, unless that is too soon or useless. @param isUrgent whether a request is refused otherwise */
  private collect(isUrgent: boolean): void {
    const sinceMs = this.readAtMs - this.collectedAtMs;
    if (sinceMs < COLLECT_MS) return;
    const isChanged =
      this.bytes > this.leftBytes + this.worthwhileBytes || this.workBytes(this.heldBytes) < this.workThenBytes - this.worthwhileBytes;
    if (!isChanged && sinceMs < (isUrgent ? Math.min(this.collectAfterMs, URGENT_MS) : this.collectAfterMs)) return;
    const before = this.bytes;
    for (const free of this.spare) free();
    this.release.start();
    this.bytes = this.read();
    this.readAtMs = this.collectedAtMs = performance.now();
    this.leftBytes = this.bytes;
    this.workThenBytes = this.workBytes(this.heldBytes);
    const isVain = before - this.bytes < this.worthwhileBytes;
    this.collectAfterMs = isVain ? Math.min(2 * this.collectAfterMs, MAX_COLLECT_MS) : COLLECT_MS;
  }
}

/** Makes the function that reads this process's resident memory without the pages of files, in bytes: proc_pid_statm(5). */
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
  // Node does not expose the kernel's page size: it is a power of two.
  const pageBytes = 2 ** Math.round(Math.log2(process.memoryUsage.rss() / pages()[1]));
  return () => {
    const [, resident, shared] = pages();
    return (resident - shared) * pageBytes;
  };
}
