import { extname } from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Body } from '../bodies/request-body.ts';
import type { Encoding } from '../otlp/encoding.ts';
import type { MemoryPressure } from '../queue/memory-pressure.ts';
import { freeBuffer } from '../runtime/free-buffer.ts';
import { MalformedRequest } from '../transcode/bytes/malformed-request.ts';
import type { TranscodeRules } from '../transcode/columns/transcode-rules.ts';
import { mostMemory } from '../transcode/transcoder.ts';
import type { TranscodeAnswer, TranscodeJob, TranscodeWorkerData } from '../transcode/worker.ts';
import { FairQueue } from './fair-queue.ts';

type Transcoded = Extract<TranscodeAnswer, { status: 'transcoded' }>;

interface Task {
  readonly body: Body;
  /** The most memory that transcoding may take, without the body. */
  readonly memoryBytes: number;
  readonly encoding: Encoding;
  readonly targetId: string;
  readonly rules: TranscodeRules;
  readonly done: PromiseWithResolvers<Transcoded>;
}

const WORKER = new URL(`../transcode/worker${extname(import.meta.url)}`, import.meta.url);

/** Bytes of a body that are copied in one tick of the event loop: about a millisecond's work. */
const COPY_SLICE_BYTES = 1024 * 1024;

/** Worker threads for large requests. A thread is started when it is first needed, and transcodes one request at a time. */
export class TranscodeWorkers {
  /** Threads that have started. */
  readonly running = new Set<Worker>();
  /** Called when a thread has started. */
  onStart: (worker: Worker) => void = () => {};
  private readonly workerData: TranscodeWorkerData;
  private readonly maxThreads: number;
  private readonly maxBytes: number;
  private readonly pressure: MemoryPressure;
  private readonly idle: Worker[] = [];
  private readonly busy = new Map<Worker, Task>();
  /** Bounded by the memory budget, in which each body is reserved. */
  private readonly waiting = new FairQueue<Task>();
  /** The next task, while no thread is idle or memory is short. */
  private next: Task | undefined;
  private busyBytes = 0;

  /**
   * @param maxBytes memory of all threads together; a single request may take more when it is the only one
   * @param pressure the memory of the process
   */
  constructor(workerData: TranscodeWorkerData, maxThreads: number, maxBytes: number, pressure: MemoryPressure) {
    this.workerData = workerData;
    this.maxThreads = maxThreads;
    this.maxBytes = maxBytes;
    this.pressure = pressure;
    pressure.onHigh(() => this.endIdle());
  }

  /**
   * Makes a block of one request. Targets are served one after the other.
   * @throws MalformedRequest, Refusal 503
   */
  transcode(body: Body, encoding: Encoding, targetId: string, rules: TranscodeRules): Promise<Transcoded> {
    const task = { body, memoryBytes: mostMemory(body.length), encoding, targetId, rules, done: Promise.withResolvers<Transcoded>() };
    this.waiting.push(targetId, task);
    this.assign();
    return task.done.promise;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.idle, ...this.busy.keys()].map((worker) => worker.terminate()));
  }

  private assign(): void {
    while (this.idle.length > 0 || this.busy.size < this.maxThreads) {
      this.next ??= this.waiting.shift();
      if (this.next === undefined) return;
      if (!this.hasRoomFor(this.next)) {
        // A running thread calls this again when it is done. Without one, the request would wait forever.
        if (this.busy.size > 0) return;
        this.next.done.reject(this.next.body.memory.refuse());
        this.next.body.free();
        this.next = undefined;
        continue;
      }
      const worker = this.idle.pop() ?? this.start();
      this.busy.set(worker, this.next);
      this.promise(this.next.memoryBytes);
      void hand(this.next, worker);
      this.next = undefined;
    }
  }

  private hasRoomFor({ memoryBytes }: Task): boolean {
    if (this.busy.size > 0 && this.busyBytes + memoryBytes > this.maxBytes) return false;
    return this.pressure.hasRoomFor(this.busyBytes + memoryBytes);
  }

  /** Idle threads keep buffers for the next request. */
  private endIdle(): void {
    for (const worker of this.idle.splice(0)) void worker.terminate();
  }

  /** @returns the task of the worker */
  private release(worker: Worker): Task | undefined {
    const task = this.busy.get(worker);
    this.busy.delete(worker);
    this.promise(-(task?.memoryBytes ?? 0));
    return task;
  }

  private promise(bytes: number): void {
    this.busyBytes += bytes;
    this.pressure.promisedBytes += bytes;
  }

  private start(): Worker {
    const worker = new Worker(WORKER, { workerData: this.workerData, name: 'transcoder' });
    worker.once('online', () => {
      this.running.add(worker);
      this.onStart(worker);
    });
    worker.once('exit', () => this.running.delete(worker));
    worker.on('message', (answer: TranscodeAnswer) => {
      const task = this.release(worker)!;
      this.idle.push(worker);
      if (answer.status === 'transcoded') task.done.resolve(answer);
      else task.done.reject(new MalformedRequest(answer.message));
      this.assign();
    });
    worker.on('error', (error) => {
      // For example, out of memory. The request fails, and the next one gets a new thread.
      this.release(worker)?.done.reject(error);
      this.assign();
    });
    worker.unref();
    return worker;
  }
}

async function hand({ body, encoding, targetId, rules }: Task, worker: Worker): Promise<void> {
  const chunks = await movable(body.chunks);
  body.free();
  const job: TranscodeJob = { body: chunks, encoding, targetId, rules };
  worker.postMessage(
    job,
    Array.from(chunks, ({ buffer }) => buffer),
  );
}

/**
 * Copies the bytes into buffers that can be transferred to another thread. Removes each chunk as it is copied, so that memory
 * holds the body once.
 */
async function movable(chunks: Uint8Array[]): Promise<Uint8Array<ArrayBuffer>[]> {
  const moved: Uint8Array<ArrayBuffer>[] = [];
  while (chunks.length > 0) {
    let count = 0;
    let length = 0;
    while (count < chunks.length && length < COPY_SLICE_BYTES) length += chunks[count++].length;
    moved.push(concatenated(chunks.splice(0, count), length));
    if (chunks.length > 0) await immediate();
  }
  return moved;
}

function concatenated(chunks: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
    freeBuffer(chunk);
  }
  return whole;
}
