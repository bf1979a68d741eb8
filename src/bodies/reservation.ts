import { memoryFull, processMemoryFull, type Refusal } from '../otlp/refusal.ts';
import type { MemoryBudget, MemoryShortage } from '../queue/memory-budget.ts';
import type { BackpressureCounts } from '../telemetry/request-counts.ts';
import type { TargetLimits, TargetUsage } from './target-limits.ts';

/** The limits that a request is checked against, and the counts of those that exceed one. */
export interface AdmissionControls {
  readonly budget: MemoryBudget;
  readonly targets: TargetLimits;
  readonly refused: BackpressureCounts;
}

/** Counts a request that is refused for lack of memory. @returns its refusal */
export function refusedFor(shortage: MemoryShortage, { budget, refused }: AdmissionControls): Refusal {
  refused[shortage]++;
  budget.refused(shortage);
  return memoryRefusal(shortage);
}

/** The refusal for a lack of memory: 503. */
export function memoryRefusal(shortage: MemoryShortage): Refusal {
  return shortage === 'memory' ? memoryFull() : processMemoryFull();
}

/**
 * The memory that one request holds: first its body, which counts in the budget and in the share of its target; then its part of a
 * block, which counts in the share only, because the queue counts blocks in the budget.
 */
export class Reservation {
  private readonly controls: AdmissionControls;
  private readonly usage: TargetUsage;
  private bodyBytes = 0;
  private blockBytes = 0;

  constructor(controls: AdmissionControls, usage: TargetUsage) {
    this.controls = controls;
    this.usage = usage;
  }

  /** Reserves `bytes` for the body. @returns the refusal if a limit would be exceeded; then nothing is reserved */
  reserve(bytes: number): Refusal | undefined {
    // Counted before the limits are checked: otherwise several threads could each take the same free memory.
    this.bodyBytes += bytes;
    this.usage.hold(bytes);
    this.controls.budget.add(bytes);
    const refusal = this.exceeded(bytes);
    if (refusal !== undefined) this.releaseBody(bytes);
    return refusal;
  }

  /** Counts the request as refused because the process is near its memory limit. @returns the refusal */
  refuse(): Refusal {
    return refusedFor('process_memory', this.controls);
  }

  /** Releases bytes of the body, by default all that are still reserved. */
  releaseBody(bytes = this.bodyBytes): void {
    this.controls.budget.release(bytes);
    this.bodyBytes -= bytes;
    this.usage.hold(-bytes);
  }

  /** Replaces the body by its part of a block, in bytes. To be called once the queue has the block: until then, the body counts. */
  moveToBlock(bytes: number): void {
    this.blockBytes = bytes;
    this.usage.hold(bytes);
    this.releaseBody();
  }

  /** Releases its part of the block, which is stored or dropped. */
  releaseBlock(): void {
    this.usage.hold(-this.blockBytes);
    this.blockBytes = 0;
  }

  /** The refusal if a limit is exceeded since `bytes` are counted, too. */
  private exceeded(bytes: number): Refusal | undefined {
    const { budget, refused, targets } = this.controls;
    const { usage } = this;
    // The only request of its target may exceed the share: otherwise, with little memory, a large one would never be accepted.
    const overShare = usage.bytes === this.bodyBytes ? undefined : targets.overShare(usage.bytes, budget.freeBytes + bytes);
    if (overShare !== undefined) {
      refused.target_memory++;
      return overShare;
    }
    const shortage = budget.exceeded();
    return shortage && refusedFor(shortage, this.controls);
  }
}
