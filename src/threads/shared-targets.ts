import { Inject, Injectable } from '@nestjs/common';
import { TargetLimits, type TargetUsage } from '../bodies/target-limits.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { BlockSink } from '../queue/block-queue.ts';
import { MemoryBudget } from '../queue/memory-budget.ts';
import { SharedMemory } from './shared-memory.ts';
import { TargetTable } from './target-table.ts';

/** Limits targets over all threads: the usage of each target is counted in the shared memory. */
@Injectable()
export class SharedTargets extends TargetLimits {
  private readonly table: TargetTable;
  private readonly all: readonly Float64Array[];
  private readonly memory: SharedMemory;

  constructor(@Inject(collectorConfig.KEY) config: Config, budget: MemoryBudget, queue: BlockSink, memory: SharedMemory) {
    super(config, budget, queue);
    this.memory = memory;
    this.table = new TargetTable(memory);
    this.all = Array.from({ length: memory.buffers.slots }, (_, slot) => memory.targetsOf(slot));
  }

  protected override make(targetId: string): TargetUsage {
    const entry = this.table.take(targetId);
    // If the table is full, the limits of the target apply to each thread separately.
    return entry === undefined ? super.make(targetId) : new SharedUsage(entry, this.all, this.memory);
  }

  protected override forget(usage: TargetUsage): void {
    if (usage instanceof SharedUsage) this.table.release(usage.entry);
  }
}

class SharedUsage implements TargetUsage {
  requests = 0;
  readonly entry: number;
  private readonly all: readonly Float64Array[];
  private readonly own: Float64Array;
  private readonly paid: BigInt64Array;

  constructor(entry: number, all: readonly Float64Array[], { slot, paid }: SharedMemory) {
    this.entry = entry;
    this.all = all;
    this.own = all[slot];
    this.paid = paid;
  }

  get bytes(): number {
    const { all, entry } = this;
    let sum = 0;
    for (let slot = 0; slot < all.length; slot++) sum += all[slot][entry];
    return sum;
  }

  get paidUntilMs(): number {
    return Number(Atomics.load(this.paid, this.entry)) / 1000;
  }

  hold(bytes: number): void {
    this.own[this.entry] += bytes;
  }

  charge(ms: number): void {
    const nowMs = performance.now();
    for (;;) {
      const before = Atomics.load(this.paid, this.entry);
      const after = BigInt(Math.round(1000 * (Math.max(Number(before) / 1000, nowMs) + ms)));
      if (Atomics.compareExchange(this.paid, this.entry, before, after) === before) return;
    }
  }

  refund(ms: number): void {
    Atomics.sub(this.paid, this.entry, BigInt(Math.round(1000 * ms)));
  }
}
