import { createRequire } from 'node:module';

type Koffi = typeof import('koffi');

/**
 * Loads koffi, which calls functions of C libraries. Called at the first use: there are machines for which koffi has no binary.
 * @throws Error when it can't be loaded
 */
export function loadKoffi(): Koffi {
  return createRequire(import.meta.url)('koffi') as Koffi;
}

/**
 * Finds a function of the C libraries in this process: libc, and what LD_PRELOAD names.
 * @param declaration in C
 * @returns undefined when no library has it, or koffi can't be loaded
 */
export function findFunction(declaration: string): unknown {
  try {
    return loadKoffi().load(null).func(declaration);
  } catch {
    return undefined;
  }
}
