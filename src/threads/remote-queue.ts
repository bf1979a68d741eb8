import { Injectable } from '@nestjs/common';
import { BlockSink } from '../queue/block-queue.ts';
import type { BlockOutcome } from '../queue/block-outcome.ts';
import type { QueuedBlock } from '../queue/block.ts';
import { MainThread } from './main-thread.ts';
import { refusalOf } from './queue-refusals.ts';
import { SharedMemory, State } from './shared-memory.ts';

/** The queue in an ingest thread: pushed blocks are moved to the main thread; the queue's state is read from the shared memory. */
@Injectable()
export class RemoteQueue extends BlockSink {
  private readonly numbers = new WeakMap<BlockOutcome, number>();
  private last = 0;
  /** Called with the number under which a block was pushed. */
  onNumber: (outcome: BlockOutcome, number: number) => void = () => {};

  constructor(
    private readonly main: MainThread,
    private readonly memory: SharedMemory,
  ) {
    super();
  }

  get waiting(): { readonly oldestAtMs: number } {
    return { oldestAtMs: this.memory.state[State.oldestAtMs] };
  }

  get isDurableAtOnce(): boolean {
    return this.memory.state[State.isDurableAtOnce] === 1;
  }

  get isQuick(): boolean {
    return this.memory.state[State.isQuick] === 1;
  }

  refusal(): Error | undefined {
    return refusalOf(this.memory.state[State.refusal]);
  }

  push({ frame: sealed, rows, trace, outcome }: QueuedBlock): Promise<void> {
    const number = ++this.last;
    const frame = ofItsOwn(sealed);
    this.memory.pushed(frame.length);
    const durable = this.main.call('push', { number, frame, rows, trace: trace?.blockSpan }, [frame.buffer]);
    durable.catch(() => {});
    if (outcome !== undefined) {
      this.numbers.set(outcome, number);
      this.onNumber(outcome, number);
    }
    return durable;
  }

  /** The number under which a block was pushed; undefined if it was not pushed yet. */
  numberOf(outcome: BlockOutcome): number | undefined {
    return this.numbers.get(outcome);
  }
}

/** The frame in memory of its own, which can be moved: copied if it is a part of Node's pool. */
function ofItsOwn(frame: Buffer): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, length } = frame;
  return buffer.byteLength === length ? new Uint8Array(buffer as ArrayBuffer, byteOffset, length) : new Uint8Array(frame);
}
