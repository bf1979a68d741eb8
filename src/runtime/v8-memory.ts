import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isOff, reportMissing } from './internals.ts';

/**
 * After its first full collection V8 would let the old generation grow by 8 MB until the next one: under full load one a
 * second, a tenth of the CPU. So it may double.
 */
const HEAP_GROWING_PERCENT = 100;

/** Lets the heap double between two full collections. Fallback: V8's own limit. */
export function growHeapFreely(): void {
  if (!isOff('heap-growth')) setFlagsFromString(`--heap-growing-percent=${HEAP_GROWING_PERCENT}`);
}

type Collect = (options?: { type: 'major'; execution: 'sync'; flavor: 'regular' | 'last-resort' }) => void;

let collect: Collect | undefined;

/**
 * Runs a full collection of this thread's heap, which frees the buffers that nothing refers to any more: some 50 ms, and a tenth of a
 * second with `all`. Fallback: nothing is done, and V8 collects when it sees fit.
 * @param all gives back what V8 keeps for later as well
 */
export function collectGarbage(all = false): void {
  collect ??= findCollect();
  collect({ type: 'major', execution: 'sync', flavor: all ? 'last-resort' : 'regular' });
}

/** Node has no function for it, and `--expose-gc` at the start would need a process of its own. */
function findCollect(): Collect {
  if (isOff('full-collection')) return () => {};
  setFlagsFromString('--expose-gc');
  const found: unknown = runInNewContext('globalThis.gc');
  if (typeof found === 'function') return found as Collect;
  reportMissing('full-collection');
  return () => {};
}
