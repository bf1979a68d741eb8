import { loopUtilization } from '../runtime/loop-utilization.ts';
import { MemoryRelease } from './memory-release.ts';

/** A thread is idle if its event loop was busy for less than IDLE_UTILIZATION of the time in each of the last IDLE_CHECKS checks. */
const IDLE_UTILIZATION = 0.1;
const IDLE_CHECKS = 4;
/** Growth of the process that is worth a collection. */
const WORTHWHILE_BYTES = 64 * 1024 ** 2;
/** Least time between two collections: a request that arrives during one waits for up to 100 ms. */
const INTERVAL_MS = 30_000;

/**
 * Releases what a burst of requests leaves behind, once this thread is idle. V8 collects garbage only while a program allocates, and
 * malloc keeps freed memory for later: without this, the process would stay at the size of its largest burst.
 */
export class IdleMemory {
  private readonly read: () => number;
  private readonly utilization: () => number;
  private idleChecks = 0;
  private releasedAtMs = Number.NEGATIVE_INFINITY;
  /** The lowest resident memory since the last release, in bytes. */
  private lowestBytes: number;
  private readonly release = new MemoryRelease();

  /**
   * @param read returns the resident memory of the process in bytes
   * @param utilization returns the fraction of the time since its last call in which this thread's event loop was busy
   */
  constructor(read: () => number, utilization = loopUtilization()) {
    this.read = read;
    this.utilization = utilization;
    this.lowestBytes = read();
  }

  /** To be called twice a second. */
  check(): void {
    this.release.finish();
    this.idleChecks = this.utilization() < IDLE_UTILIZATION ? this.idleChecks + 1 : 0;
    const bytes = this.read();
    this.lowestBytes = Math.min(this.lowestBytes, bytes);
    if (this.idleChecks < IDLE_CHECKS || bytes < this.lowestBytes + WORTHWHILE_BYTES) return;
    const nowMs = performance.now();
    if (nowMs - this.releasedAtMs < INTERVAL_MS) return;
    this.releasedAtMs = nowMs;
    this.release.start(true);
    this.lowestBytes = this.read();
  }
}
