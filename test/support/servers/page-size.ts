import type { Libc } from '../../../src/runtime/libc.ts';

const EINVAL = 22;

/** A simulated kernel with larger pages than this machine's. It refuses addresses that are not a multiple of `pageBytes`. */
export interface Kernel {
  pageBytes: number;
  /** Calls so far, by name. */
  readonly calls: Record<'sync' | 'forget' | 'load', number>;
  /** Calls that it has refused. */
  readonly refused: string[];
}

/**
 * The system calls of the simulated kernel, which call those of the real one. Addresses count from the start of the mapping, as a kernel
 * maps files at the start of a page.
 */
export function libcOf(kernel: Kernel, libc: Libc): Libc {
  let base = 0n;
  const checked = (name: keyof Kernel['calls'], address: bigint): boolean => {
    kernel.calls[name]++;
    const isAligned = (address - base) % BigInt(kernel.pageBytes) === 0n;
    if (!isAligned) kernel.refused.push(`${name} at ${address - base}`);
    return isAligned;
  };
  return {
    ...libc,
    pageBytes: kernel.pageBytes,
    map(fd, length) {
      const mapping = libc.map(fd, length);
      if (typeof mapping !== 'number') base = mapping.address;
      return mapping;
    },
    sync: (address, length) => (checked('sync', address) ? libc.sync(address, length) : EINVAL),
    syncLater: async (address, length) => (checked('sync', address) ? libc.syncLater(address, length) : EINVAL),
    forget: (address, length) => (checked('forget', address) ? libc.forget(address, length) : EINVAL),
    loadLater: async (address, length) => (checked('load', address) ? libc.loadLater(address, length) : EINVAL),
  };
}
