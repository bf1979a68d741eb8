import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { TranscodeWorkers } from '../blocks/transcode-workers.ts';
import { cpuStacks } from './cpu-profile.ts';
import { heapStacks } from './heap-profile.ts';
import { alreadyProfiling, senderGone } from './refusals.ts';
import { SourceNames } from './source-names.ts';
import { pseudoFrame, type ThreadProfile } from './stack.ts';
import { IngestThreads } from '../threads/ingest-threads.ts';
import { cpuNanos, mainThread, type ProfileHandle, type Thread, workerThread } from './threads.ts';

/** The type and unit of a recording's amounts, in pprof's terms. */
export interface RecordingKind {
  readonly amount: 'cpu' | 'inuse_space' | 'alloc_space';
  readonly unit: 'nanoseconds' | 'bytes';
}

/** A profile of all threads. */
export interface Recording {
  readonly kind: RecordingKind;
  readonly threads: readonly ThreadProfile[];
  readonly startedAtMs: number;
  readonly tookMs: number;
  /** The sampling interval, in nanoseconds or bytes. */
  readonly period: number;
}

/** V8's profile of one thread. */
interface Recorded {
  readonly thread: string;
  readonly json: string;
  readonly cpuNanos: number;
}

type Start = (thread: Thread) => ProfileHandle | Promise<ProfileHandle>;

const HEAP_SAMPLE_BYTES = 64 * 1024;
const STACK_DEPTH = 64;
const NATIVE = pseudoFrame('(garbage collection, compilation, zlib and file system)');

/** Profiles the main thread, the ingest threads and the transcoders, one profile at a time. It costs nothing while none is taken. */
@Injectable()
export class Profiler {
  private readonly names = new SourceNames();
  private readonly transcoders: TranscodeWorkers;
  private readonly ingestThreads: IngestThreads;
  private busy = false;

  constructor(transcoders: TranscodeWorkers, ingestThreads: IngestThreads) {
    this.transcoders = transcoders;
    this.ingestThreads = ingestThreads;
  }

  /** All threads that run JavaScript. */
  get threads(): readonly Thread[] {
    const ingesting = this.ingestThreads.running.filter(({ isOnline }) => isOnline).map(({ worker }) => worker);
    return [mainThread, ...[...ingesting, ...this.transcoders.running].map(workerThread)];
  }

  /**
   * Records the CPU time of the whole process by function. The sum is the CPU time that the kernel counts.
   * @param frequency samples per second
   * @param gone ends the profile early
   * @throws HttpException 429 while another profile is taken, 499 when `gone` ends it
   */
  async cpu(seconds: number, frequency: number, gone: AbortSignal): Promise<Recording> {
    const startedAtMs = Date.now();
    const startMs = performance.now();
    const before = process.cpuUsage();
    const recorded = await this.record(seconds, gone, (thread) => thread.startCpuProfile({ sampleInterval: 1_000 / frequency }));
    const period = 1e9 / frequency;
    const nativeNanos = recorded.reduce((rest, thread) => rest - thread.cpuNanos, cpuNanos(process.cpuUsage(before)));
    const native = {
      stack: [NATIVE],
      samples: Math.round(Math.max(0, nativeNanos) / period),
      amount: Math.round(Math.max(0, nativeNanos)),
    };
    const threads = recorded.map(({ thread, json, cpuNanos: nanos }) => ({ thread, stacks: cpuStacks(json, nanos, this.names) }));
    return {
      kind: { amount: 'cpu', unit: 'nanoseconds' },
      threads: [...threads, { thread: 'threads without JavaScript', stacks: [native] }],
      startedAtMs,
      tookMs: performance.now() - startMs,
      period: Math.round(period),
    };
  }

  /**
   * Records the memory allocated on V8's heaps by function: all of it, or what is still in use at the end.
   * @param gone ends the profile early
   * @throws HttpException 429 while another profile is taken, 499 when `gone` ends it
   */
  async heap(seconds: number, amount: 'inuse_space' | 'alloc_space', gone: AbortSignal): Promise<Recording> {
    const startedAtMs = Date.now();
    const startMs = performance.now();
    const isAll = amount === 'alloc_space';
    const options = {
      sampleInterval: HEAP_SAMPLE_BYTES,
      stackDepth: STACK_DEPTH,
      includeObjectsCollectedByMajorGC: isAll,
      includeObjectsCollectedByMinorGC: isAll,
    };
    const recorded = await this.record(seconds, gone, (thread) => thread.startHeapProfile(options));
    return {
      kind: { amount, unit: 'bytes' },
      threads: recorded.map(({ thread, json }) => ({ thread, stacks: heapStacks(json, this.names) })),
      startedAtMs,
      tookMs: performance.now() - startMs,
      period: HEAP_SAMPLE_BYTES,
    };
  }

  /** Profiles all threads for `seconds`. Threads that start meanwhile are included; those that end are not. */
  private async record(seconds: number, gone: AbortSignal, start: Start): Promise<Recorded[]> {
    if (this.busy) throw alreadyProfiling();
    this.busy = true;
    const stops: Promise<() => Promise<Recorded>>[] = [];
    const begin = (thread: Thread): void => {
      const stop = startOn(thread, start);
      stop.catch(() => {});
      stops.push(stop);
    };
    this.transcoders.onStart = (worker) => begin(workerThread(worker));
    this.ingestThreads.onStart = ({ worker }) => begin(workerThread(worker));
    try {
      for (const thread of this.threads) begin(thread);
      await delay(seconds * 1_000, undefined, { signal: gone }).catch(() => {});
      const recorded = await Promise.allSettled(stops.map(async (stop) => (await stop)()));
      if (gone.aborted) throw senderGone();
      return recorded.flatMap(ofRunning);
    } finally {
      this.transcoders.onStart = () => {};
      this.ingestThreads.onStart = () => {};
      this.busy = false;
    }
  }
}

/** Starts a profile of a thread. @returns the function that ends it. Both reject when the thread has ended */
async function startOn(thread: Thread, start: Start): Promise<() => Promise<Recorded>> {
  const before = cpuNanos(await thread.cpuUsage());
  const handle = await start(thread);
  return async () => {
    const json = await handle.stop();
    return { thread: thread.name, json, cpuNanos: cpuNanos(await thread.cpuUsage()) - before };
  };
}

function ofRunning(result: PromiseSettledResult<Recorded>): Recorded[] {
  if (result.status === 'fulfilled') return [result.value];
  if ((result.reason as NodeJS.ErrnoException).code === 'ERR_WORKER_NOT_RUNNING') return [];
  throw result.reason;
}
