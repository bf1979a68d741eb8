import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const V1 = '/sys/fs/cgroup/memory';
const V2 = '/sys/fs/cgroup';

/** A cgroup whose processes the kernel kills when they take more than its limit, as it does in a container. */
export interface MemoryCgroup extends Disposable {
  /** The file to which a process writes its id, to run under the limit from then on. */
  readonly processes: string;
  /** Bytes that the kernel can't reclaim at once: memory of the processes, and pages that are not written to disk yet. */
  usedBytes(): number;
  /** Processes that were killed for memory so far. */
  kills(): number;
}

/** Whether this machine allows it. */
export function canMakeCgroups(): boolean {
  try {
    memoryCgroup(64 * 1024 ** 2)[Symbol.dispose]();
    return true;
  } catch {
    return false;
  }
}

let made = 0;

/** Creates a cgroup. @throws Error where that is not possible: without root, or in a container without a cgroup of its own */
export function memoryCgroup(limitBytes: number): MemoryCgroup {
  const isV1 = existsSync(join(V1, 'memory.limit_in_bytes'));
  const dir = join(isV1 ? V1 : V2, `memory-check-${process.pid}-${++made}`);
  if (!isV1) writeFileSync(join(V2, 'cgroup.subtree_control'), '+memory');
  mkdirSync(dir);
  const write = (file: string, value: string) => writeFileSync(join(dir, file), value);
  if (isV1) {
    write('memory.limit_in_bytes', String(limitBytes));
    if (existsSync(join(dir, 'memory.memsw.limit_in_bytes'))) write('memory.memsw.limit_in_bytes', String(limitBytes));
  } else {
    write('memory.max', String(limitBytes));
    if (existsSync(join(dir, 'memory.swap.max'))) write('memory.swap.max', '0');
  }
  const unreclaimable = isV1
    ? ['total_rss', 'total_dirty', 'total_writeback']
    : ['anon', 'kernel', 'sock', 'shmem', 'file_dirty', 'file_writeback'];
  return {
    processes: join(dir, 'cgroup.procs'),
    usedBytes: () => sum(figures(join(dir, 'memory.stat')), unreclaimable),
    kills: () => figures(join(dir, isV1 ? 'memory.oom_control' : 'memory.events')).get('oom_kill') ?? 0,
    [Symbol.dispose]: () => rmdirSync(dir),
  };
}

/** The lines of a file, each a name and a number. */
function figures(path: string): ReadonlyMap<string, number> {
  const lines = readFileSync(path, 'latin1').trim().split('\n');
  return new Map(lines.map((line) => line.split(' ')).map(([name, value]) => [name, Number(value)]));
}

function sum(all: ReadonlyMap<string, number>, names: readonly string[]): number {
  return names.reduce((total, name) => total + (all.get(name) ?? 0), 0);
}
