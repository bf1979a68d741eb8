import { Inject, Injectable } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { targetOverRate, targetOverShare, type Refusal } from '../otlp/refusal.ts';
import { BlockSink } from '../queue/block-queue.ts';
import { MemoryBudget } from '../queue/memory-budget.ts';

/** A target that holds less than this part of the memory is never over its share. */
const FREE_SHARE = 0.01;

/** Exporters gather spans and send them every few seconds: so much of their rate may come at once. */
const BURST_MS = 5_000;

/** How often targets that have gone are forgotten. */
const SWEEP_INTERVAL_MS = 1_000;

/** What one target has in hand: kept while it sends, and a moment longer. */
export interface TargetUsage {
  /** Requests without their answer. */
  requests: number;
  /** Memory its bodies and its part of the waiting blocks take. */
  readonly bytes: number;
  /** `performance.now()` at which all its spans so far would have come, had they come at its rate and no faster. */
  readonly paidUntilMs: number;
  /** Counts `bytes` more, or less. */
  hold(bytes: number): void;
  /** Adds the time that further spans stand for, from now on. */
  charge(ms: number): void;
  /** Takes that back. */
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
 * Keeps one target from starving the others.
 *
 * Memory: a target may hold `factor` times what is still free. Alone it gets far, as all the rest is free; the fuller
 * the memory and the more targets send, the less each may hold, and something is always left for the next target.
 * The same with time: where senders wait for ClickHouse, it is less the longer the oldest block has waited, so that what
 * one target has sent is not so much that what the others send can't be stored in time.
 * (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches".)
 *
 * Rate: a token bucket, written as the time until which the spans so far are paid for. How many spans a request has is
 * known when it is parsed, so the target pays afterwards, and is refused while it is in debt.
 */
@Injectable()
export class TargetLimits {
  private readonly usages = new Map<string, TargetUsage>();
  private readonly budget: MemoryBudget;
  private readonly queue: BlockSink;
  /** Wait of the oldest block, in ms, at which no target gets more than the free share. */
  private readonly maxWaitMs: number;
  /** From TARGET_MAX_MEMORY_PERCENT p: alone, a target stops at p percent of the high mark. Undefined: no limit. */
  private readonly factor: number | undefined;
  private readonly freeShareBytes: number;
  /** 0: no limit. */
  private readonly msPerSpan: number;

  constructor(@Inject(collectorConfig.KEY) config: Config, budget: MemoryBudget, queue: BlockSink) {
    const percent = config.TARGET_MAX_MEMORY_PERCENT;
    const spansPerSecond = config.TARGET_MAX_SPANS_PER_SECOND;
    this.budget = budget;
    this.queue = queue;
    // Half of what its senders wait, as what comes now waits behind it. Nobody waits for what is on the disk, or acknowledged already.
    this.maxWaitMs = config.ENABLE_DISK_BUFFER || config.ACK_MODE === 'received' ? Number.POSITIVE_INFINITY : config.ACK_TIMEOUT_MS / 2;
    this.factor = percent === 100 ? undefined : percent / (100 - percent);
    this.freeShareBytes = budget.limitBytes * FREE_SHARE;
    this.msPerSpan = spansPerSecond === 0 ? 0 : 1000 / spansPerSecond;
    setInterval(() => this.sweep(), SWEEP_INTERVAL_MS).unref();
  }

  /** Targets that have something in hand, or had a moment ago. */
  get targets(): number {
    return this.usages.size;
  }

  /** The usage of a target. Held for no longer than its requests and its bytes last. */
  of(targetId: string): TargetUsage {
    let usage = this.usages.get(targetId);
    if (usage === undefined) this.usages.set(targetId, (usage = this.make(targetId)));
    return usage;
  }

  /** Why the target can't have `bytes` more, if so. */
  overShare(usage: TargetUsage, bytes: number): Refusal | undefined {
    if (this.factor === undefined || usage.bytes + bytes <= this.freeShareBytes) return undefined;
    return usage.bytes + bytes > this.factor * this.budget.freeBytes * this.timeLeft() ? targetOverShare() : undefined;
  }

  /** Why the target has sent enough for now, if so. */
  overRate(usage: TargetUsage): Refusal | undefined {
    if (this.msPerSpan === 0) return undefined;
    const debtMs = usage.paidUntilMs - performance.now() - BURST_MS;
    return debtMs > 0 ? targetOverRate(1000 / this.msPerSpan, Math.ceil(debtMs / 1000)) : undefined;
  }

  charge(usage: TargetUsage, spans: number): void {
    if (this.msPerSpan > 0) usage.charge(spans * this.msPerSpan);
  }

  /** Gives back what was charged for spans that are refused after all: they come again. */
  refund(usage: TargetUsage, spans: number): void {
    if (this.msPerSpan > 0) usage.refund(spans * this.msPerSpan);
  }

  /** From 1, when no block waits, to 0, when the oldest has waited too long. */
  private timeLeft(): number {
    // Nobody waits for what the disk buffer has: no need to ask it, for every chunk of a body, what is its oldest.
    if (this.maxWaitMs === Number.POSITIVE_INFINITY) return 1;
    const waitedMs = performance.now() - this.queue.waiting.oldestAtMs;
    return 1 - Math.min(1, Math.max(0, waitedMs) / this.maxWaitMs);
  }

  protected make(_targetId: string): TargetUsage {
    return new OwnUsage();
  }

  /** The usage of a target that has gone. */
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
