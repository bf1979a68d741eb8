import { Inject, Injectable } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { targetOverRate, targetOverShare, type Refusal } from '../otlp/refusal.ts';
import { BlockSink } from '../queue/block-queue.ts';
import { MemoryBudget } from '../queue/memory-budget.ts';

/** A target that holds less than this fraction of the memory is never over its share. */
const FREE_SHARE = 0.01;

/** Exporters send batches every few seconds: a burst may have as many spans as this time at the target's rate. */
const BURST_MS = 5_000;

/** How often targets without requests are removed. */
const SWEEP_INTERVAL_MS = 1_000;

/** The requests and the memory of one target. Removed soon after its last request. */
export interface TargetUsage {
  /** Requests in flight. */
  requests: number;
  /** Memory of its bodies and of its part of the waiting blocks. */
  readonly bytes: number;
  /** `performance.now()` at which all its spans so far would have arrived at exactly its maximum rate. */
  readonly paidUntilMs: number;
  /** Adds `bytes`, which may be negative, to the memory that the target holds. */
  hold(bytes: number): void;
  /** Moves `paidUntilMs`, or the present time if that is later, forward by `ms`: the time of further spans at the maximum rate. */
  charge(ms: number): void;
  /** Reverts a charge. */
  refund(ms: number): void;
}

class OwnUsage implements TargetUsage {
  requests = 0;
  bytes = 0;
  paidUntilMs = 0;

  hold(bytes: number): void {
    this.bytes += bytes;
  }

  charge(ms: number): void {
    this.paidUntilMs = Math.max(this.paidUntilMs, performance.now()) + ms;
  }

  refund(ms: number): void {
    this.paidUntilMs -= ms;
  }
}

/**
 * Limits the memory and the rate of each target, so that one target can't starve the others.
 *
 * Memory: a target may hold `factor` times the free memory. A single target may hold most of it; the fuller the memory and the more
 * targets send, the less each may hold, so there is always room for the next target. Where senders wait for ClickHouse, the limit also
 * shrinks while the oldest block waits, so that the backlog of one target does not delay others beyond their timeout.
 * (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches".)
 *
 * Rate: a token bucket, kept as the time until which the spans so far are paid for. The number of spans is known only when a request is
 * parsed. So the target is charged afterwards, and refused while the bucket is overdrawn.
 */
@Injectable()
export class TargetLimits {
  private readonly usages = new Map<string, TargetUsage>();
  private readonly queue: BlockSink;
  /** Wait of the oldest block, in ms, from which on no target may hold more than FREE_SHARE. */
  private readonly maxWaitMs: number;
  /** p / (100 - p) for TARGET_MAX_MEMORY_PERCENT p: a single target then stops at p percent of the high mark. Undefined: no limit. */
  private readonly factor: number | undefined;
  private readonly freeShareBytes: number;
  /** 0: no limit. */
  private readonly msPerSpan: number;

  constructor(@Inject(collectorConfig.KEY) config: Config, budget: MemoryBudget, queue: BlockSink) {
    const percent = config.TARGET_MAX_MEMORY_PERCENT;
    const spansPerSecond = config.TARGET_MAX_SPANS_PER_SECOND;
    this.queue = queue;
    // Half of the senders' wait, because new requests wait behind that block. With the disk buffer, or ACK_MODE=received, none wait.
    this.maxWaitMs = config.ENABLE_DISK_BUFFER || config.ACK_MODE === 'received' ? Number.POSITIVE_INFINITY : config.ACK_TIMEOUT_MS / 2;
    this.factor = percent === 100 ? undefined : percent / (100 - percent);
    this.freeShareBytes = budget.limitBytes * FREE_SHARE;
    this.msPerSpan = spansPerSecond === 0 ? 0 : 1000 / spansPerSecond;
    setInterval(() => this.sweep(), SWEEP_INTERVAL_MS).unref();
  }

  /** The number of targets that have requests or memory, or had until a moment ago. */
  get targets(): number {
    return this.usages.size;
  }

  /** The usage of a target. Callers may keep it only while the target has requests or memory. */
  of(targetId: string): TargetUsage {
    let usage = this.usages.get(targetId);
    if (usage === undefined) this.usages.set(targetId, (usage = this.make(targetId)));
    return usage;
  }

  /** The refusal if a target may not hold `bytes` in total where `freeBytes` of the budget are free: 429. */
  overShare(bytes: number, freeBytes: number): Refusal | undefined {
    if (this.factor === undefined || bytes <= this.freeShareBytes) return undefined;
    return bytes > this.factor * freeBytes * this.timeLeft() ? targetOverShare() : undefined;
  }

  /** The refusal if the target exceeds its rate: 429. */
  overRate(usage: TargetUsage): Refusal | undefined {
    if (this.msPerSpan === 0) return undefined;
    const debtMs = usage.paidUntilMs - performance.now() - BURST_MS;
    return debtMs > 0 ? targetOverRate(1000 / this.msPerSpan, Math.ceil(debtMs / 1000)) : undefined;
  }

  /** Counts spans of a target. */
  charge(usage: TargetUsage, spans: number): void {
    if (this.msPerSpan > 0) usage.charge(spans * this.msPerSpan);
  }

  /** Reverts the charge of spans that are refused after all: their sender retries. */
  refund(usage: TargetUsage, spans: number): void {
    if (this.msPerSpan > 0) usage.refund(spans * this.msPerSpan);
  }

  /** From 1, if no block waits, to 0, if the oldest has waited for `maxWaitMs`. */
  private timeLeft(): number {
    // With the disk buffer, finding its oldest block for each chunk of a body would only cost time.
    if (this.maxWaitMs === Number.POSITIVE_INFINITY) return 1;
    const waitedMs = performance.now() - this.queue.waiting.oldestAtMs;
    return 1 - Math.min(1, Math.max(0, waitedMs) / this.maxWaitMs);
  }

  /** Makes the usage of a new target. */
  protected make(_targetId: string): TargetUsage {
    return new OwnUsage();
  }

  /** Called with the usage of a target that is removed. */
  protected forget(_usage: TargetUsage): void {}

  private sweep(): void {
    const nowMs = performance.now();
    for (const [targetId, usage] of this.usages) {
      if (usage.requests > 0 || usage.bytes > 0 || usage.paidUntilMs > nowMs) continue;
      this.usages.delete(targetId);
      this.forget(usage);
    }
  }
}
