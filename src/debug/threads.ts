import v8 from 'node:v8';
import type { Worker } from 'node:worker_threads';

/** A running profile. */
export interface ProfileHandle {
  /** Ends the profile. @returns it in V8's JSON format */
  stop(): string | Promise<string>;
}

/** What the main thread can request of a thread. All methods fail for a thread that is not running. */
export interface Thread {
  readonly name: string;
  startCpuProfile(options: v8.CPUProfileOptions): ProfileHandle | Promise<ProfileHandle>;
  startHeapProfile(options: v8.HeapProfileOptions): ProfileHandle | Promise<ProfileHandle>;
  heapStatistics(): v8.HeapInfo | Promise<v8.HeapInfo>;
  cpuUsage(): NodeJS.CpuUsage | Promise<NodeJS.CpuUsage>;
}

/** The main thread. */
export const mainThread: Thread = {
  name: 'main',
  startCpuProfile: (options) => v8.startCpuProfile(options),
  startHeapProfile: (options) => v8.startHeapProfile(options),
  heapStatistics: () => v8.getHeapStatistics(),
  cpuUsage: () => process.threadCpuUsage(),
};

/** A worker thread. */
export function workerThread(worker: Worker): Thread {
  return {
    name: worker.threadName ?? '',
    startCpuProfile: (options) => worker.startCpuProfile(options),
    startHeapProfile: (options) => worker.startHeapProfile(options),
    heapStatistics: () => worker.getHeapStatistics(),
    cpuUsage: () => worker.cpuUsage(),
  };
}

/** The sum of user and system time, in nanoseconds. */
export function cpuNanos({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) * 1_000;
}
