import { openSync, readSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { trimMalloc } from './malloc.ts';

/** Part of the limit from which on nothing more is let in. What is in hand by then may take the rest. */
const HIGH_MARK = 0.6;
/** Part of the limit that work in hand may bring the process to. The kernel needs some for sockets and page tables. */
const MOST = 0.95;
/** A reading takes some microseconds. */
const READING_MS = 5;
/** A full collection takes some 50 ms, and is in vain where the memory is in use. */
const COLLECT_MS = 1_000;

/**
 * Whether the process nears its memory limit, by what the kernel says. The memory budget counts bodies and blocks; buffers that
 * grow, garbage that V8 has not collected, and memory that malloc has not given back are known to the kernel alone.
 * Pages of files are not counted: the kernel takes them back when it needs them.
 */
export class MemoryPressure {
  private readonly limitBytes: number;
  private readonly read: () => number;
  private readAtMs = Number.NEGATIVE_INFINITY;
  private collectedAtMs = Number.NEGATIVE_INFINITY;
  private bytes = 0;
  /** Frees what is kept for later use. */
  private readonly spare: (() => void)[] = [];

  /** @param read what the process takes, in bytes; the kernel's figure unless given */
  constructor(limitBytes: number, read = residentBytes()) {
    this.limitBytes = limitBytes;
    this.read = read;
  }

  /** Has `free` called when memory runs short. It may take away what can be made again. */
  onHigh(free: () => void): void {
    this.spare.push(free);
  }

  /** Whether nothing more may be let in. */
  get isHigh(): boolean {
    return this.isAbove(this.limitBytes * HIGH_MARK);
  }

  /** Whether work that is let in already may take so many bytes more. */
  hasRoomFor(bytes: number): boolean {
    return !this.isAbove(this.limitBytes * MOST - bytes);
  }

  private isAbove(mark: number): boolean {
    const nowMs = performance.now();
    if (nowMs - this.readAtMs < READING_MS) return this.bytes > mark;
    this.look(nowMs);
    if (this.bytes <= mark || nowMs - this.collectedAtMs < COLLECT_MS) return this.bytes > mark;
    for (const free of this.spare) free();
    collectGarbage();
    trimMalloc();
    this.collectedAtMs = performance.now();
    this.look(this.collectedAtMs);
    return this.bytes > mark;
  }

  private look(nowMs: number): void {
    this.bytes = this.read();
    this.readAtMs = nowMs;
  }
}

let collect: (() => void) | undefined;

/** A full collection of this thread's heap, which frees the buffers that nothing refers to any more. */
function collectGarbage(): void {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  collect();
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
  const pages = () => text.toString('latin1', 0, readSync(fd, text, 0, text.length, 0)).split(' ').map(Number);
  // The kernel's page size, which Node does not tell: a power of two.
  const pageBytes = 2 ** Math.round(Math.log2(process.memoryUsage.rss() / pages()[1]));
  return () => {
    const [, resident, shared] = pages();
    return (resident - shared) * pageBytes;
  };
}
