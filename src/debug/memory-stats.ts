import { jemallocStats, type JemallocStats } from '../runtime/jemalloc.ts';
import { cpuNanos, type Thread } from './threads.ts';

export interface ThreadStats {
  readonly thread: string;
  readonly cpuSeconds: number;
  readonly heapUsedBytes: number;
  readonly heapTotalBytes: number;
  readonly heapLimitBytes: number;
  /** Outside the heap, and freed with objects on it: buffers, most of all. */
  readonly externalBytes: number;
  /** V8's own, outside the heap. */
  readonly mallocedBytes: number;
}

export interface MemoryStats {
  readonly rssBytes: number;
  /** Array buffers of the main thread, which are external. */
  readonly arrayBuffersBytes: number;
  readonly threads: readonly ThreadStats[];
  /** null unless jemalloc is preloaded. */
  readonly jemalloc: JemallocStats | null;
}

/** Where the memory of the process is. Threads that end meanwhile are left out. */
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
