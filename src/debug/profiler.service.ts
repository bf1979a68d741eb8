import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { TranscoderPool } from '../blocks/transcoder-pool.ts';
import { cpuStacks } from './cpu-profile.ts';
import { heapStacks } from './heap-profile.ts';
import { alreadyProfiling, senderGone } from './refusals.ts';
import { SourceNames } from './source-names.ts';
import { pseudoFrame, type ThreadProfile } from './stack.ts';
import { cpuNanos, mainThread, type ProfileHandle, type Thread, workerThread } from './threads.ts';

/** What the amounts of a recording are, in pprof's words. */
export interface RecordingKind {
  readonly amount: 'cpu' | 'inuse_space' | 'alloc_space';
  readonly unit: 'nanoseconds' | 'bytes';
}

export interface Recording {
  readonly kind: RecordingKind;
  readonly threads: readonly ThreadProfile[];
  readonly startedAtMs: number;
  readonly tookMs: number;
  /** About one sample is taken in so many nanoseconds or bytes. */
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

/** Profiles all threads for a while, the main one and the transcoders; one profile at a time. Without one, nothing runs. */
@Injectable()
export class Profiler {
  private readonly names = new SourceNames();
  private readonly transcoders: TranscoderPool;
  private busy = false;

  constructor(transcoders: TranscoderPool) {
    this.transcoders = transcoders;
  }

  /** Every thread that runs JavaScript. */
  get threads(): readonly Thread[] {
    return [mainThread, ...Array.from(this.transcoders.workers.running, workerThread)];
  }

  /**
   * The processor time of the whole process, by function. Its sum is what the kernel has counted.
   * @param gone ends it early
   * @throws HttpException when another profile runs, or when ended early
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
   * What is allocated on V8's heaps meanwhile, by function: all of it, or what is still in use at the end.
   * @param gone ends it early
   * @throws HttpException when another profile runs, or when ended early
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

  /** Threads that start meanwhile are in it, too; those that end are not. */
  private async record(seconds: number, gone: AbortSignal, start: Start): Promise<Recorded[]> {
    if (this.busy) throw alreadyProfiling();
    this.busy = true;
    const { workers } = this.transcoders;
    const stops: Promise<() => Promise<Recorded>>[] = [];
    const begin = (thread: Thread): void => {
      const stop = startOn(thread, start);
      stop.catch(() => {});
      stops.push(stop);
    };
    workers.onStart = (worker) => begin(workerThread(worker));
    try {
      for (const thread of this.threads) begin(thread);
      await delay(seconds * 1_000, undefined, { signal: gone }).catch(() => {});
      const recorded = await Promise.allSettled(stops.map(async (stop) => (await stop)()));
      if (gone.aborted) throw senderGone();
      return recorded.flatMap(ofRunning);
    } finally {
      workers.onStart = () => {};
      this.busy = false;
    }
  }
}

/** @returns what ends it. Both fail when the thread ends. */
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
