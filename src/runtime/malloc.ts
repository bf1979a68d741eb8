import { createRequire } from 'node:module';
import { isOff, reportMissing } from './internals.ts';

type Func = (...values: unknown[]) => number;

/** MALLCTL_ARENAS_ALL in jemalloc's headers. */
const ALL_ARENAS = 4096;

let purge: (() => void) | undefined;

/**
 * Releases memory that was freed, but that malloc keeps for later, to the kernel. glibc keeps it without limit below a block that is
 * still in use, and in the arenas of ended threads; jemalloc keeps it for ten seconds. Fallback, without koffi or with another
 * malloc: nothing is done.
 */
export function trimMalloc(): void {
  purge ??= findPurge();
  purge();
}

function findPurge(): () => void {
  if (isOff('malloc-trim')) return () => {};
  try {
    const library = (createRequire(import.meta.url)('koffi') as typeof import('koffi')).load(null);
    const find = (declaration: string): Func | undefined => {
      try {
        return library.func(declaration);
      } catch {
        return undefined;
      }
    };
    const mallctl = find('int mallctl(const char* name, void* value, void* length, void* newValue, size_t newLength)');
    if (mallctl !== undefined) return () => mallctl(`arena.${ALL_ARENAS}.purge`, null, null, null, 0);
    const trim = find('int malloc_trim(size_t pad)');
    if (trim !== undefined) return () => trim(0);
  } catch {
    // Resident memory then stays higher, and more requests are refused: the limit still holds.
  }
  reportMissing('malloc-trim');
  return () => {};
}
