import type { MemoryShortage } from '../queue/memory-budget.ts';

/** Why requests are refused that are in order, in the words of the metric's label. */
export type BackpressureReason = MemoryShortage | 'target_memory' | 'target_rate' | 'storage' | 'shutdown';

/** Requests refused, by reason. */
export type BackpressureCounts = Record<BackpressureReason, number>;

export function noRefusals(): BackpressureCounts {
  return { memory: 0, process_memory: 0, target_memory: 0, target_rate: 0, storage: 0, shutdown: 0 };
}
