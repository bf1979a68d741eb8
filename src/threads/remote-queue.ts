import { Injectable } from '@nestjs/common';
import { BlockSink } from '../queue/block-queue.ts';
import type { BlockOutcome } from '../queue/block-outcome.ts';
import type { QueuedBlock } from '../queue/block.ts';
import { MainThread } from './main-thread.ts';
import { refusalOf } from './queue-refusals.ts';
import { SharedMemory, State } from './shared-memory.ts';

/** The queue of the main thread, as an ingest thread sees it: the memory of a block is moved there, and its state is shared. */
@Injectable()
export class RemoteQueue extends BlockSink {
  private readonly numbers = new WeakMap<BlockOutcome, number>();
  private last = 0;
  /** Called when a block has its number. */
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

  /** The number that a block was pushed under; undefined if it was not yet. */
  numberOf(outcome: BlockOutcome): number | undefined {
    return this.numbers.get(outcome);
  }
}

/** A frame that is not part of Node's pool, which must not be moved. */
function ofItsOwn(frame: Buffer): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, length } = frame;
  return buffer.byteLength === length ? new Uint8Array(buffer as ArrayBuffer, byteOffset, length) : new Uint8Array(frame);
}
