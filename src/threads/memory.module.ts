import { isMainThread, workerData } from 'node:worker_threads';
import { Global, Module } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { type HeldBytes, MemoryBudget } from '../queue/memory-budget.ts';
import { MemoryPressure } from '../queue/memory-pressure.ts';
import { TargetLimits } from '../bodies/target-limits.ts';
import { BlockSink } from '../queue/block-queue.ts';
import { CountCells } from '../telemetry/count-cells.ts';
import type { ThreadData } from './messages.ts';
import { SharedMemory, State } from './shared-memory.ts';
import { SharedTargets } from './shared-targets.ts';

/** The bytes of all threads, for the memory budget. */
export function heldBytes(memory: SharedMemory): HeldBytes {
  const { state } = memory;
  return {
    get total() {
      return memory.heldBytes;
    },
    get isFull() {
      return state[State.isFull] === 1;
    },
    set isFull(isFull: boolean) {
      state[State.isFull] = Number(isFull);
    },
    add: (bytes) => memory.hold(bytes),
  };
}

function countCells(memory: SharedMemory): CountCells {
  const all = Array.from({ length: memory.buffers.slots }, (_, slot) => memory.countsOf(slot));
  return { own: all[memory.slot], all };
}

/** The shared memory; undefined where requests are served by the main thread. */
export function sharedMemory({ INGEST_THREADS: threads }: Config): SharedMemory | undefined {
  if (isMainThread) return threads === 1 ? undefined : SharedMemory.for(threads);
  const { buffers, slot } = workerData as ThreadData;
  return new SharedMemory(buffers, slot);
}

@Global()
@Module({
  providers: [
    { provide: SharedMemory, inject: [collectorConfig.KEY], useFactory: sharedMemory },
    { provide: CountCells, inject: [SharedMemory], useFactory: (memory?: SharedMemory) => memory && countCells(memory) },
    {
      provide: MemoryBudget,
      inject: [collectorConfig.KEY, MemoryPressure, SharedMemory],
      useFactory: (config: Config, pressure: MemoryPressure, memory?: SharedMemory) =>
        new MemoryBudget(config.MEM_BUFFER_SIZE_MB * 1024 ** 2, pressure, memory && heldBytes(memory)),
    },
    {
      provide: TargetLimits,
      inject: [collectorConfig.KEY, MemoryBudget, BlockSink, SharedMemory],
      useFactory: (config: Config, budget: MemoryBudget, queue: BlockSink, memory?: SharedMemory) =>
        memory === undefined ? new TargetLimits(config, budget, queue) : new SharedTargets(config, budget, queue, memory),
    },
  ],
  exports: [SharedMemory, CountCells, MemoryBudget, TargetLimits],
})
export class ThreadMemoryModule {}
