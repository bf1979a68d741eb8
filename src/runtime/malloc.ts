import { isOff, reportMissing } from './internals.ts';
import { findMallctl } from './jemalloc.ts';
import { findFunction } from './koffi.ts';

/** MALLCTL_ARENAS_ALL in jemalloc's headers. */
const ALL_ARENAS = 4096;

let purge: (() => void) | undefined;

/**
 * Releases memory that was freed, but that malloc keeps for later, to the kernel. glibc keeps it without limit below a block that is
 * still in use, and in the arenas of ended threads; jemalloc keeps it for ten seconds. Fallback, without koffi or with another
 * malloc: nothing is done. Resident memory then stays higher, and more requests are refused: the limit still holds.
 */
export function trimMalloc(): void {
  purge ??= findPurge();
  purge();
}

function findPurge(): () => void {
  if (isOff('malloc-trim')) return () => {};
  const mallctl = findMallctl();
  if (mallctl !== undefined) return () => mallctl(`arena.${ALL_ARENAS}.purge`, null, null, null, 0);
  const trim = findFunction('int malloc_trim(size_t pad)') as ((pad: number) => number) | undefined;
  if (trim !== undefined) return () => trim(0);
  reportMissing('malloc-trim');
  return () => {};
}
