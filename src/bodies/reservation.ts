import { memoryFull, processMemoryFull, type Refusal } from '../otlp/refusal.ts';
import type { MemoryBudget, MemoryShortage } from '../queue/memory-budget.ts';
import type { BackpressureCounts } from '../telemetry/request-counts.ts';
import type { TargetLimits, TargetUsage } from './target-limits.ts';

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

export function memoryRefusal(shortage: MemoryShortage): Refusal {
  return shortage === 'memory' ? memoryFull() : processMemoryFull();
}

/**
 * The memory that one request holds. First its body, which counts in the budget and in the share of its target. Then
 * its part of a block, which counts in the share alone: the queue counts its blocks in the budget itself.
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

  /** Takes `bytes` for the body; or takes nothing, and says why the request is refused. */
  reserve(bytes: number): Refusal | undefined {
    const { budget, refused, targets } = this.controls;
    const { usage } = this;
    // The only request of its target may go beyond the share: where memory is small, a large one would never get through.
    const overShare = usage.bytes === this.bodyBytes ? undefined : targets.overShare(usage, bytes);
    if (overShare !== undefined) {
      refused.target_memory++;
      return overShare;
    }
    const shortage = budget.reserve(bytes);
    if (shortage !== undefined) return refusedFor(shortage, this.controls);
    this.bodyBytes += bytes;
    usage.hold(bytes);
    return undefined;
  }

  /** There is no memory to work on the body, says the kernel's figure: the refusal for it. */
  refuse(): Refusal {
    return refusedFor('process_memory', this.controls);
  }

  /** Gives back bytes of the body; all that are left, unless said otherwise. */
  releaseBody(bytes = this.bodyBytes): void {
    this.controls.budget.release(bytes);
    this.bodyBytes -= bytes;
    this.usage.hold(-bytes);
  }

  /** The body is gone; its spans are in a block that waits, and take `bytes` of it. */
  moveToBlock(bytes: number): void {
    this.releaseBody();
    this.blockBytes = bytes;
    this.usage.hold(bytes);
  }

  /** The block is stored, or thrown away. */
  releaseBlock(): void {
    this.usage.hold(-this.blockBytes);
    this.blockBytes = 0;
  }
}
