import v8 from 'node:v8';
import type { Worker } from 'node:worker_threads';

/** Of a profile that runs. */
export interface ProfileHandle {
  /** Ends it. @returns V8's profile, in JSON */
  stop(): string | Promise<string>;
}

/** What can be asked of any thread, from the main one. All of it fails for a thread that does not run, or no longer. */
export interface Thread {
  readonly name: string;
  startCpuProfile(options: v8.CPUProfileOptions): ProfileHandle | Promise<ProfileHandle>;
  startHeapProfile(options: v8.HeapProfileOptions): ProfileHandle | Promise<ProfileHandle>;
  heapStatistics(): v8.HeapInfo | Promise<v8.HeapInfo>;
  cpuUsage(): NodeJS.CpuUsage | Promise<NodeJS.CpuUsage>;
}

export const mainThread: Thread = {
  name: 'main',
  startCpuProfile: (options) => v8.startCpuProfile(options),
  startHeapProfile: (options) => v8.startHeapProfile(options),
  heapStatistics: () => v8.getHeapStatistics(),
  cpuUsage: () => process.threadCpuUsage(),
};

export function workerThread(worker: Worker): Thread {
  return {
    name: `${worker.threadName} ${worker.threadId}`,
    startCpuProfile: (options) => worker.startCpuProfile(options),
    startHeapProfile: (options) => worker.startHeapProfile(options),
    heapStatistics: () => worker.getHeapStatistics(),
    cpuUsage: () => worker.cpuUsage(),
  };
}

/** User and system time together, in nanoseconds. */
export function cpuNanos({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) * 1_000;
}
