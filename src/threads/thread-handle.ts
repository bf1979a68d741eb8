import type { EventLoopUtilization } from 'node:perf_hooks';
import { Worker } from 'node:worker_threads';
import { Channel } from './channel.ts';
import type { MainMethods, ThreadData, ThreadMethods } from './messages.ts';

/**
 * Size of V8's heap for new objects. A thread with hundreds of connections would fill the default, 96 MB, before the first collection.
 * Requests leave few objects: more frequent collections cost no measurable CPU time (docs/performance.md).
 */
const YOUNG_GENERATION_MB = 24;

/** An ingest thread, as the main thread sees it. */
export class ThreadHandle extends Channel<ThreadMethods, MainMethods> {
  readonly slot: number;
  readonly worker: Worker;
  /** Whether the thread runs JavaScript. */
  isOnline = false;
  /** Whether the thread can listen. */
  isPrepared = false;
  isListening = false;
  /** Whether the thread is on standby: it listens, and ends each connection with its first answer. */
  isStandby = false;
  isGone = false;
  private lastUse: EventLoopUtilization | undefined;
  /** Resolves with the error that ended it; undefined if there was none. */
  readonly ended: Promise<Error | undefined>;

  /** @param program the file that the thread runs */
  constructor(program: URL, data: ThreadData) {
    const worker = new Worker(program, {
      workerData: data,
      name: `ingest-${data.slot}`,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    super(worker);
    this.slot = data.slot;
    this.worker = worker;
    let failure: Error | undefined;
    worker.on('message', (packets: Parameters<typeof this.receive>[0]) => this.receive(packets));
    worker.once('online', () => (this.isOnline = true));
    worker.on('error', (error: Error) => (failure = error));
    this.ended = new Promise((resolve) => {
      // All that it had sent has been received by then.
      worker.on('exit', () => {
        this.isListening = false;
        this.isGone = true;
        this.close();
        resolve(failure);
      });
    });
  }

  get isServing(): boolean {
    return this.isListening && !this.isStandby;
  }

  /** The fraction of the time since the last call in which its event loop was busy; 0 at the first call, and while it does not listen. */
  load(): number {
    if (!this.isListening) return 0;
    const { performance: its } = this.worker;
    const before = this.lastUse;
    this.lastUse = its.eventLoopUtilization();
    return before === undefined ? 0 : its.eventLoopUtilization(this.lastUse, before).utilization;
  }
}
