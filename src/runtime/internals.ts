/**
 * What the collector uses of Node and V8 that is not public API, and of libc through koffi. What each gains is measured in
 * docs/performance.md. Where one is missing, in another version of Node or on another platform, its public fallback is used: slower,
 * with the same result.
 */
export const INTERNALS = ['shared-reads', 'parser-stop', 'zstd-reuse', 'heap-growth', 'full-collection', 'malloc-trim'] as const;

export type InternalName = (typeof INTERNALS)[number];

/** Read here and not from the configuration: worker threads have none. */
const off = new Set((process.env.NODE_INTERNALS_OFF ?? '').split(',').map((name) => name.trim()));
const missing = new Set<InternalName>();
let isStarted = false;

/** Whether NODE_INTERNALS_OFF turns it off. */
export function isOff(name: InternalName): boolean {
  return off.has(name) || off.has('all');
}

/** To be called by the module that uses it, when it finds that it is not there. */
export function reportMissing(name: InternalName): void {
  if (isStarted && !missing.has(name)) process.emitWarning(`${name} is not available: the collector needs more CPU or memory`);
  missing.add(name);
}

/** Those that are missing or turned off: their fallbacks are in use. What is missed later, as it is first used then, is a warning. */
export function fallbacksInUse(): readonly InternalName[] {
  isStarted = true;
  return INTERNALS.filter((name) => missing.has(name) || isOff(name));
}
