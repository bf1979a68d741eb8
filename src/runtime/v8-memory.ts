import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isOff, reportMissing } from './internals.ts';

/**
 * How much the heap may grow until the next full collection. By default V8 starts one after 8 MB of growth: under full load one a
 * second, a tenth of the CPU time.
 */
const HEAP_GROWING_PERCENT = 100;

/** Lets the heap double between two full collections. Fallback: V8's default. */
export function growHeapFreely(): void {
  if (!isOff('heap-growth')) setFlagsFromString(`--heap-growing-percent=${HEAP_GROWING_PERCENT}`);
}

type Collect = (options?: { type: 'major'; execution: 'sync'; flavor: 'regular' | 'last-resort' }) => void;

let collect: Collect | undefined;

/**
 * Runs a full collection of this thread's heap, which also frees unreferenced buffers. It takes some 50 ms, and 100 ms with `all`.
 * Fallback: nothing is done, and V8 decides when to collect.
 * @param all releases memory that V8 keeps for later as well
 */
export function collectGarbage(all = false): void {
  collect ??= findCollect();
  collect({ type: 'major', execution: 'sync', flavor: all ? 'last-resort' : 'regular' });
}

/** Gets V8's `gc` function. Node has no API for it, and `--expose-gc` on the command line would need another process. */
function findCollect(): Collect {
  if (isOff('full-collection')) return () => {};
  setFlagsFromString('--expose-gc');
  const found: unknown = runInNewContext('globalThis.gc');
  if (typeof found === 'function') return found as Collect;
  reportMissing('full-collection');
  return () => {};
}
