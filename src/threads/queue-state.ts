import { Injectable } from '@nestjs/common';
import { BlockQueue } from '../queue/block-queue.ts';
import { MemoryPressure } from '../queue/memory-pressure.ts';
import { numberOf } from './queue-refusals.ts';
import { SharedMemory, State } from './shared-memory.ts';

/** The state of the queue and the process, in the shared memory: ingest threads read it for each request. */
@Injectable()
export class QueueState {
  constructor(
    private readonly memory: SharedMemory,
    private readonly queue: BlockQueue,
    private readonly pressure: MemoryPressure,
  ) {}

  /** Writes the current state. */
  publish(): void {
    const { queue } = this;
    const { state } = this.memory;
    state[State.refusal] = numberOf(queue.refusal());
    state[State.isDurableAtOnce] = Number(queue.isDurableAtOnce);
    state[State.isQuick] = Number(queue.isQuick);
    state[State.oldestAtMs] = queue.waiting.oldestAtMs;
    state[State.promisedBytes] = this.pressure.promisedBytes;
  }
}
