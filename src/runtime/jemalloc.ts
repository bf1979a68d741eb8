import { findFunction } from './koffi.ts';

/** jemalloc's statistics, in bytes (jemalloc(3), MALLCTL NAMESPACE). */
export interface JemallocStats {
  readonly allocatedBytes: number;
  readonly activeBytes: number;
  readonly residentBytes: number;
  readonly mappedBytes: number;
  readonly retainedBytes: number;
}

/** jemalloc's function for its settings, statistics and commands. Returns an errno, 0 on success. */
type Mallctl = (name: string, value: Buffer | null, length: Buffer | null, newValue: Buffer | null, newLength: number) => number;

/** Finds `mallctl`; undefined unless jemalloc is preloaded (LD_PRELOAD) and koffi can be loaded. */
export function findMallctl(): Mallctl | undefined {
  const declaration = 'int mallctl(const char* name, void* value, void* length, void* newValue, size_t newLength)';
  return findFunction(declaration) as Mallctl | undefined;
}

/** Looked up at the first call: koffi is not available on every machine. */
let found: { readonly mallctl: Mallctl | undefined } | undefined;

/** Reads jemalloc's statistics; undefined unless jemalloc is preloaded (LD_PRELOAD) and koffi can be loaded. */
export function jemallocStats(): JemallocStats | undefined {
  const { mallctl } = (found ??= { mallctl: findMallctl() });
  if (mallctl === undefined) return undefined;
  // Statistics are cached until the epoch is advanced.
  const epoch = size(1);
  mallctl('epoch', epoch, size(epoch.length), epoch, epoch.length);
  return {
    allocatedBytes: read(mallctl, 'stats.allocated'),
    activeBytes: read(mallctl, 'stats.active'),
    residentBytes: read(mallctl, 'stats.resident'),
    mappedBytes: read(mallctl, 'stats.mapped'),
    retainedBytes: read(mallctl, 'stats.retained'),
  };
}

function read(control: Mallctl, name: string): number {
  const value = size(0);
  const error = control(name, value, size(value.length), null, 0);
  if (error !== 0) throw new Error(`mallctl ${name}: error ${error}`);
  return Number(value.readBigUInt64LE());
}

/** A size_t in a buffer. */
function size(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
