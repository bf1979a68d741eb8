import { jemallocStats, type JemallocStats } from '../runtime/jemalloc.ts';
import { cpuNanos, type Thread } from './threads.ts';

/** CPU time and V8 heap of one thread. */
export interface ThreadStats {
  readonly thread: string;
  readonly cpuSeconds: number;
  readonly heapUsedBytes: number;
  readonly heapTotalBytes: number;
  readonly heapLimitBytes: number;
  /** Memory outside of the heap that objects on it own: mostly buffers. */
  readonly externalBytes: number;
  /** V8's own memory outside of the heap. */
  readonly mallocedBytes: number;
}

/** The memory of the process. */
export interface MemoryStats {
  readonly rssBytes: number;
  /** Array buffers of the main thread, part of its `externalBytes`. */
  readonly arrayBuffersBytes: number;
  readonly threads: readonly ThreadStats[];
  /** null unless jemalloc is preloaded. */
  readonly jemalloc: JemallocStats | null;
}

/** Reads the memory of the process and of its threads. Threads that end meanwhile are omitted. */
export async function memoryStats(threads: readonly Thread[]): Promise<MemoryStats> {
  const settled = await Promise.allSettled(threads.map(threadStats));
  const { rss, arrayBuffers } = process.memoryUsage();
  return {
    rssBytes: rss,
    arrayBuffersBytes: arrayBuffers,
    threads: settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])),
    jemalloc: jemallocStats() ?? null,
  };
}

async function threadStats(thread: Thread): Promise<ThreadStats> {
  const [heap, cpu] = await Promise.all([thread.heapStatistics(), thread.cpuUsage()]);
  return {
    thread: thread.name,
    cpuSeconds: cpuNanos(cpu) / 1e9,
    heapUsedBytes: heap.used_heap_size,
    heapTotalBytes: heap.total_heap_size,
    heapLimitBytes: heap.heap_size_limit,
    externalBytes: heap.external_memory,
    mallocedBytes: heap.malloced_memory,
  };
}
