import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { MalformedRequest } from '../transcode/malformed-request.ts';
import type { TranscodeAnswer, TranscodeJob, TranscodeWorkerData } from '../transcode/worker.ts';
import type { Body } from './request-body.ts';
import type { Encoding } from '../transcode/transcoder.ts';

type Transcoded = Extract<TranscodeAnswer, { status: 'transcoded' }>;

interface Task {
  readonly body: Body;
  readonly encoding: Encoding;
  readonly targetId: string;
  readonly done: PromiseWithResolvers<Transcoded>;
}

const WORKER = new URL(`../transcode/worker${extname(import.meta.url)}`, import.meta.url);

/** Worker threads for large requests. They are started when first needed; each works on one request at a time. */
export class TranscodeWorkers {
  private readonly workerData: TranscodeWorkerData;
  private readonly maxThreads: number;
  private readonly idle: Worker[] = [];
  private readonly busy = new Map<Worker, Task>();
  /** Bounded by the memory budget, in which each body has its place. */
  private readonly waiting: Task[] = [];

  constructor(workerData: TranscodeWorkerData, maxThreads: number) {
    this.workerData = workerData;
    this.maxThreads = maxThreads;
  }

  /**
   * Makes a block of one request.
   * @throws MalformedRequest
   */
  transcode(body: Body, encoding: Encoding, targetId: string): Promise<Transcoded> {
    const task = { body, encoding, targetId, done: Promise.withResolvers<Transcoded>() };
    this.waiting.push(task);
    this.assign();
    return task.done.promise;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.idle, ...this.busy.keys()].map((worker) => worker.terminate()));
  }

  private assign(): void {
    while (this.waiting.length > 0) {
      const worker = this.idle.pop() ?? (this.busy.size < this.maxThreads ? this.start() : undefined);
      if (worker === undefined) return;
      const task = this.waiting.shift()!;
      this.busy.set(worker, task);
      const body = contiguous(task.body);
      const job: TranscodeJob = { body, encoding: task.encoding, targetId: task.targetId };
      worker.postMessage(job, [body.buffer]);
    }
  }

  private start(): Worker {
    const worker = new Worker(WORKER, { workerData: this.workerData, name: 'transcoder' });
    worker.on('message', (answer: TranscodeAnswer) => {
      const task = this.busy.get(worker)!;
      this.busy.delete(worker);
      this.idle.push(worker);
      if (answer.status === 'transcoded') task.done.resolve(answer);
      else task.done.reject(new MalformedRequest(answer.message));
      this.assign();
    });
    worker.on('error', (error) => {
      // A thread that ran out of memory, say: its request fails, the next one gets a new thread.
      this.busy.get(worker)?.done.reject(error);
      this.busy.delete(worker);
      this.assign();
    });
    worker.unref();
    return worker;
  }
}

/** The body in memory of its own, which can move to another thread. */
function contiguous({ pieces, length }: Body): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
