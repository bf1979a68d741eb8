import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { Body } from '../bodies/request-body.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import type { Encoding } from '../otlp/encoding.ts';
import { MemoryPressure } from '../queue/memory-pressure.ts';
import { MalformedRequest } from '../transcode/bytes/malformed-request.ts';
import type { TranscodeRules } from '../transcode/columns/transcode-rules.ts';
import { mostMemory } from '../transcode/transcoder.ts';
import type { TranscodeAnswer, TranscodeJob, TranscodeWorkerData } from '../transcode/worker.ts';
import { FairQueue } from './fair-queue.ts';
import { LargeBodies, maxSpanBytes, movable, type TranscodedBody } from './large-bodies.ts';

/** A body on its way to a worker thread. */
export interface MovingBody {
  /** Bytes. */
  readonly length: number;
  /** Returns its bytes in buffers that can be transferred to another thread. Called once. */
  move(): Uint8Array<ArrayBuffer>[] | Promise<Uint8Array<ArrayBuffer>[]>;
  /** Drops the body because memory is short. @returns the refusal for the sender */
  refuse(): Error;
}

interface Task {
  readonly body: MovingBody;
  /** The most memory that transcoding may take, without the body. */
  readonly memoryBytes: number;
  readonly encoding: Encoding;
  readonly targetId: string;
  readonly rules: TranscodeRules;
  readonly done: PromiseWithResolvers<TranscodedBody>;
}

const WORKER = new URL(`../transcode/worker${extname(import.meta.url)}`, import.meta.url);

/** Worker threads for large requests. A thread is started when it is first needed, and transcodes one request at a time. */
@Injectable()
export class TranscodeWorkers extends LargeBodies implements OnApplicationShutdown {
  /** Threads that have started. */
  readonly running = new Set<Worker>();
  /** Called when a thread has started. */
  onStart: (worker: Worker) => void = () => {};
  private readonly workerData: TranscodeWorkerData;
  private readonly maxThreads: number;
  /** Memory of all threads together; a single request may take more when it is the only one. */
  private readonly maxBytes: number;
  private readonly pressure: MemoryPressure;
  private readonly idle: Worker[] = [];
  private readonly busy = new Map<Worker, Task>();
  /** Bounded by the memory budget, in which each body is reserved. */
  private readonly waiting = new FairQueue<Task>();
  /** The next task, while no thread is idle or memory is short. */
  private next: Task | undefined;
  private busyBytes = 0;
  private started = 0;

  /** @param pressure the memory of the process */
  constructor(@Inject(collectorConfig.KEY) config: Config, pressure: MemoryPressure) {
    super();
    this.workerData = { dialect: config.ROW_DIALECT, maxSpanBytes: maxSpanBytes(config) };
    this.maxThreads = config.TRANSCODER_THREADS;
    this.maxBytes = config.MEM_BUFFER_SIZE_MB * 1024 ** 2;
    this.pressure = pressure;
    pressure.onHigh(() => this.endIdle());
  }

  transcode(body: Body, encoding: Encoding, targetId: string, rules: TranscodeRules): Promise<TranscodedBody> {
    const refuse = () => {
      body.free();
      return body.memory.refuse();
    };
    return this.transcodeMoving({ length: body.length, move: () => movable(body), refuse }, encoding, targetId, rules);
  }

  /** Transcodes a body that may come from another thread. @throws MalformedRequest, or the result of its `refuse` */
  transcodeMoving(body: MovingBody, encoding: Encoding, targetId: string, rules: TranscodeRules): Promise<TranscodedBody> {
    const task = { body, memoryBytes: mostMemory(body.length), encoding, targetId, rules, done: Promise.withResolvers<TranscodedBody>() };
    this.waiting.push(targetId, task);
    this.assign();
    return task.done.promise;
  }

  async onApplicationShutdown(): Promise<void> {
    await Promise.all([...this.idle, ...this.busy.keys()].map((worker) => worker.terminate()));
  }

  private assign(): void {
    while (this.idle.length > 0 || this.busy.size < this.maxThreads) {
      this.next ??= this.waiting.shift();
      if (this.next === undefined) return;
      if (!this.hasRoomFor(this.next)) {
        // A running thread calls this again when it is done. Without one, the request would wait forever.
        if (this.busy.size > 0) return;
        this.next.done.reject(this.next.body.refuse());
        this.next = undefined;
        continue;
      }
      const worker = this.idle.pop() ?? this.start();
      this.busy.set(worker, this.next);
      this.reserve(this.next.memoryBytes);
      void postTask(this.next, worker);
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
    this.reserve(-(task?.memoryBytes ?? 0));
    return task;
  }

  private reserve(bytes: number): void {
    this.busyBytes += bytes;
    this.pressure.promisedBytes += bytes;
  }

  private start(): Worker {
    const worker = new Worker(WORKER, { workerData: this.workerData, name: `transcoder ${++this.started}` });
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

async function postTask({ body, encoding, targetId, rules }: Task, worker: Worker): Promise<void> {
  const chunks = await body.move();
  const job: TranscodeJob = { body: chunks, encoding, targetId, rules };
  worker.postMessage(
    job,
    Array.from(chunks, ({ buffer }) => buffer),
  );
}
