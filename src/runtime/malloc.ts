import { createRequire } from 'node:module';
import { isOff, reportMissing } from './internals.ts';

type Func = (...values: unknown[]) => number;

/** MALLCTL_ARENAS_ALL in jemalloc's headers. */
const ALL_ARENAS = 4096;

let purge: (() => void) | undefined;

/**
 * Has malloc give back to the kernel what was freed and it keeps for later. glibc keeps it for good where something above it is
 * still in use, and so for threads that have ended; jemalloc for ten seconds. Does nothing where koffi can't be loaded, or malloc is another.
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
    // The kernel's figure then stays higher, and more is refused: the limit holds all the same.
  }
  reportMissing('malloc-trim');
  return () => {};
}
