import { constrainedMemory } from 'node:process';
import { totalmem } from 'node:os';

/** Bytes this process may use: the cgroup's limit when there is one, else the machine's memory. */
export function memoryLimitBytes(): number {
  const constrained = constrainedMemory();
  return constrained > 0 && constrained < totalmem() ? constrained : totalmem();
}
