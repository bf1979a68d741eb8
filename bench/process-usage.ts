import { readdirSync, readFileSync } from 'node:fs';
import { processMemoryMb } from '../test/support/servers/process-memory.ts';

/** Linux counts processor time in ticks of 10 ms. */
const TICKS_PER_SECOND = 100;

/** CPU time a process and its threads have used, user and system, in seconds; from /proc. */
export function cpuSeconds(pid: number): number {
  return statSeconds(readFileSync(`/proc/${pid}/stat`, 'latin1'));
}

/** CPU time of the running threads of a process, in seconds, summed by their names. */
export function cpuSecondsByThread(pid: number): Map<string, number> {
  const seconds = new Map<string, number>();
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1');
    const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    seconds.set(name, (seconds.get(name) ?? 0) + statSeconds(stat));
  }
  return seconds;
}

/** CPU time of a process's threads that run, in ns, by the scheduler's clock: exact also for a second of little load. */
export function cpuNs(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce((sum, id) => sum + threadNs(pid, id), 0);
}

/** The same for its main thread. */
export function mainThreadNs(pid: number): number {
  return threadNs(pid, String(pid));
}

function threadNs(pid: number, id: string): number {
  return Number(readFileSync(`/proc/${pid}/task/${id}/schedstat`, 'latin1').split(' ', 1)[0]);
}

function statSeconds(stat: string): number {
  // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** The peak resident memory of a process, in MB. */
export function peakMemoryMb(pid: number): number {
  return processMemoryMb(pid, 'VmHWM');
}

export interface Memory {
  readonly rssMb: number;
  /** Heap, buffers, stacks. */
  readonly anonymousMb: number;
  /** Mapped files: the program itself, and pages of the disk buffer, which the kernel can reclaim. */
  readonly fileMb: number;
}

/** Resident memory of a process. */
export function memory(pid: number): Memory {
  return {
    rssMb: processMemoryMb(pid, 'VmRSS'),
    anonymousMb: processMemoryMb(pid, 'RssAnon'),
    fileMb: processMemoryMb(pid, 'RssFile') + processMemoryMb(pid, 'RssShmem'),
  };
}

/** CPU time of all processes of the machine, in seconds, plus the time that the hypervisor gave to other machines. */
export function machineCpuSeconds(): number {
  const [total] = readFileSync('/proc/stat', 'latin1').split('\n', 1);
  const [user, nice, system, , , irq, softirq, steal] = total.trim().split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND;
}

/** CPU time of this process, in seconds. */
export function ownCpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
