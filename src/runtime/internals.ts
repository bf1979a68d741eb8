/**
 * The internals of Node and V8 that make the collector faster or smaller, and libc where that is all it does. docs/performance.md has the
 * measured gain of each. If one is missing, in another version of Node or on another platform, its public fallback is used: slower,
 * with the same result.
 */
export const INTERNALS = [
  'shared-reads',
  'parser-stop',
  'zstd-reuse',
  'heap-growth',
  'full-collection',
  'malloc-trim',
  'port-steering',
] as const;

export type InternalName = (typeof INTERNALS)[number];

/** Read from the environment: worker threads have no configuration. */
const off = new Set((process.env.NODE_INTERNALS_OFF ?? '').split(',').map((name) => name.trim()));
const missing = new Set<InternalName>();

/** Whether NODE_INTERNALS_OFF turns an internal off. */
export function isOff(name: InternalName): boolean {
  return off.has(name) || off.has('all');
}

/** Reports that an internal is missing: found by the module that uses it when it is loaded, or is looked up at the start. */
export function reportMissing(name: InternalName): void {
  missing.add(name);
}

/** Reports that an internal exists, but does not work: found at its use. The first time for each, with a process warning. */
export function reportFailed(name: InternalName): void {
  if (!missing.has(name)) process.emitWarning(`${name} does not work: the collector needs more CPU or memory`);
  missing.add(name);
}

/** The internals that are missing or turned off, of which the fallbacks are used. Called when all have been looked up. */
export function fallbacksInUse(): readonly InternalName[] {
  return INTERNALS.filter((name) => missing.has(name) || isOff(name));
}
