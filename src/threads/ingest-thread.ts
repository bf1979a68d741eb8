import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Channel } from './channel.ts';
import type { MainMethods, ThreadData, ThreadMethods } from './messages.ts';

const PROGRAM = new URL(`../ingest-thread${extname(import.meta.url)}`, import.meta.url);

/** An ingest thread, as the main thread sees it. */
export class IngestThread extends Channel<ThreadMethods, MainMethods> {
  readonly slot: number;
  readonly worker: Worker;
  /** It runs JavaScript. */
  isOnline = false;
  isListening = false;
  isGone = false;
  private lastUsage: { readonly atMs: number; readonly cpuMs: number } | undefined;
  /** Resolves with the error that ended it; undefined if there was none. */
  readonly ended: Promise<Error | undefined>;

  constructor(data: ThreadData) {
    const worker = new Worker(PROGRAM, { workerData: data, name: `ingest-${data.slot}` });
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

  /** The part of a processor that it has used since the last call; undefined at the first. Rejects if it has ended. */
  async load(): Promise<number | undefined> {
    const { user, system } = await this.worker.cpuUsage();
    const before = this.lastUsage;
    const now = { atMs: performance.now(), cpuMs: (user + system) / 1000 };
    this.lastUsage = now;
    return before && (now.cpuMs - before.cpuMs) / (now.atMs - before.atMs);
  }
}
