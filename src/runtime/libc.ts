import { loadKoffi } from './koffi.ts';

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MS_SYNC = 4;
const MADV_DONTNEED = 4;
const MADV_POPULATE_WRITE = 23;
const LOCK_EXCLUSIVE_NONBLOCKING = 2 | 4;
const LOCK_RELEASE = 8;
const SC_PAGESIZE = 30;
/** The errno of a disk without room. */
export const ENOSPC = 28;
/** The errno of a lock that another process holds. */
export const EWOULDBLOCK = 11;
const EINTR = 4;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/** The system calls of the disk buffer. Each returns an errno, 0 on success. Addresses must be at the start of a page. */
export interface Libc {
  /** The kernel's page size, in bytes: 4 KB nearly everywhere, 16 or 64 KB on some arm64 machines. */
  readonly pageBytes: number;
  /** Locks the file for this process, without waiting (flock(2)). */
  lock(fd: number): number;
  /** Releases that lock. */
  unlock(fd: number): number;
  /** Allocates the first `length` bytes of the file on its disk (posix_fallocate(3)). */
  allocate(fd: number, length: number): number;
  /** Maps the first `length` bytes of the file for reading and writing (mmap(2)); returns an errno on failure. */
  map(fd: number, length: number): Mapping | number;
  /** The same, but writes stay in this process and are never written to the file (MAP_PRIVATE). */
  mapPrivately(fd: number, length: number): Mapping | number;
  /** Writes pages to the disk (msync(2)). */
  sync(address: bigint, length: number): number;
  /** The same, in another thread. */
  syncLater(address: bigint, length: number): Promise<number>;
  /** Unloads pages from the memory of this process (madvise(2), MADV_DONTNEED). */
  forget(address: bigint, length: number): number;
  /** Loads pages for writing, in another thread (madvise(2), MADV_POPULATE_WRITE). EINVAL before Linux 5.14. */
  loadLater(address: bigint, length: number): Promise<number>;
}

/** A mapped file. */
export interface Mapping {
  readonly address: bigint;
  readonly bytes: Buffer;
}

/** The system calls are not available. The message is for the operator. */
export class LibcError extends Error {
  override readonly name = 'LibcError';
}

/** A system call for a range of pages. */
interface RangeCall {
  (address: bigint, length: number, option: number): number;
  async(address: bigint, length: number, option: number, done: (error: Error | null, result: number) => void): void;
}

let libc: Libc | undefined;

/**
 * Loads the system calls, at the first call: a machine for which koffi has no binary can run without the disk buffer.
 * @throws LibcError when this is not Linux, or koffi can't be loaded
 */
export function loadLibc(): Libc {
  return (libc ??= load());
}

function load(): Libc {
  if (process.platform !== 'linux')
    throw new LibcError(`The disk buffer needs Linux: on ${process.platform} set ENABLE_DISK_BUFFER=false.`);
  const koffi = requireKoffi();
  const library = koffi.load(null);
  const sysconf = library.func('long sysconf(int name)') as (name: number) => number;
  const mmap = library.func('void* mmap(void* address, size_t length, int protection, int flags, int fd, int64_t offset)') as (
    ...values: unknown[]
  ) => unknown;
  const msync = library.func('int msync(void* address, size_t length, int flags)') as unknown as RangeCall;
  const madvise = library.func('int madvise(void* address, size_t length, int advice)') as unknown as RangeCall;
  const fallocate = library.func('int posix_fallocate(int fd, int64_t offset, int64_t length)') as (
    fd: number,
    offset: number,
    length: number,
  ) => number;
  const flock = library.func('int flock(int fd, int operation)') as (fd: number, operation: number) => number;
  const pageBytes = sysconf(SC_PAGESIZE);
  if (pageBytes <= 0)
    throw new LibcError(
      `The disk buffer needs the kernel's page size, which can't be read (errno ${koffi.errno()}). Set ENABLE_DISK_BUFFER=false.`,
    );
  const errnoOf = (result: number) => (result === 0 ? 0 : koffi.errno());
  function mapAs(kind: number, fd: number, length: number): Mapping | number {
    const pointer = mmap(null, length, PROT_READ_WRITE, kind, fd, 0);
    const address = koffi.address(pointer);
    return address === MAP_FAILED ? koffi.errno() : { address, bytes: Buffer.from(koffi.view(pointer, length)) };
  }
  function later(call: RangeCall, address: bigint, length: number, option: number): Promise<number> {
    return new Promise((resolve, reject) => {
      call.async(address, length, option, (error, result) => (error === null ? resolve(errnoOf(result)) : reject(error)));
    });
  }

  return {
    pageBytes,
    lock: (fd) => errnoOf(flock(fd, LOCK_EXCLUSIVE_NONBLOCKING)),
    unlock: (fd) => errnoOf(flock(fd, LOCK_RELEASE)),
    allocate(fd, length) {
      for (;;) {
        const errno = fallocate(fd, 0, length);
        if (errno !== EINTR) return errno;
      }
    },
    map: (fd, length) => mapAs(MAP_SHARED, fd, length),
    mapPrivately: (fd, length) => mapAs(MAP_PRIVATE, fd, length),
    sync: (address, length) => errnoOf(msync(address, length, MS_SYNC)),
    syncLater: (address, length) => later(msync, address, length, MS_SYNC),
    forget: (address, length) => errnoOf(madvise(address, length, MADV_DONTNEED)),
    loadLater: (address, length) => later(madvise, address, length, MADV_POPULATE_WRITE),
  };
}

function requireKoffi(): ReturnType<typeof loadKoffi> {
  try {
    return loadKoffi();
  } catch (error) {
    const [reason] = (error as Error).message.split('\n', 1);
    throw new LibcError(
      `The disk buffer needs the package koffi, which can't be loaded (${reason}). ` +
        'Set ENABLE_DISK_BUFFER=false, or install it for this platform.',
    );
  }
}
