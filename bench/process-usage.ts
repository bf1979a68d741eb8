import { readFileSync } from 'node:fs';

/** Linux counts processor time in ticks of 10 ms. */
const TICKS_PER_SECOND = 100;

/** CPU time a process and its threads have used, user and system, in seconds; from /proc. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Most resident memory a process has had, in MB. */
export function peakMemoryMb(pid: number): number {
  const [, kilobytes] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))!;
  return Number(kilobytes) / 1024;
}
