import { closeSync, constants, fstatSync, openSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import koffi from 'koffi';

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MS_SYNC = 4;
const MADV_DONTNEED = 4;
const LOCK_EXCLUSIVE_NONBLOCKING = 2 | 4;
const LOCK_RELEASE = 8;
export const PAGE_BYTES = 4096;

/** Why a file can't be the disk buffer. The message is for the operator. */
export class DiskBufferError extends Error {
  override readonly name = 'DiskBufferError';
}

interface Libc {
  mmap(address: null, length: number, protection: number, flags: number, fd: number, offset: number): unknown;
  msync: {
    (address: bigint, length: number, flags: number): number;
    async(address: bigint, length: number, flags: number, done: (error: Error | null, result: number) => void): void;
  };
  madvise(address: bigint, length: number, advice: number): number;
  posix_fallocate(fd: number, offset: number, length: number): number;
  flock(fd: number, operation: number): number;
}

let libc: Libc | undefined;

function loadLibc(): Libc {
  if (libc !== undefined) return libc;
  if (process.platform !== 'linux') throw new DiskBufferError(`The disk buffer needs Linux: on ${process.platform} set ENABLE_DISK_BUFFER=false.`);
  const library = koffi.load(null);
  libc = {
    mmap: library.func('void* mmap(void* address, size_t length, int protection, int flags, int fd, int64_t offset)') as Libc['mmap'],
    msync: library.func('int msync(void* address, size_t length, int flags)') as unknown as Libc['msync'],
    madvise: library.func('int madvise(void* address, size_t length, int advice)') as unknown as Libc['madvise'],
    posix_fallocate: library.func('int posix_fallocate(int fd, int64_t offset, int64_t length)') as Libc['posix_fallocate'],
    flock: library.func('int flock(int fd, int operation)') as Libc['flock'],
  };
  return libc;
}

/**
 * A file of fixed size, mapped into memory for reading and writing: what is written to `bytes` is the kernel's from then
 * on, and survives the end of this process, however it ends. It is allocated in full beforehand, as a full disk under a
 * sparse mapping would be SIGBUS, death without an error. One process has it at a time.
 */
export class MappedFile {
  readonly bytes: Buffer;
  private readonly fd: number;
  private readonly address: unknown;

  private constructor(fd: number, address: unknown, length: number) {
    this.fd = fd;
    this.address = address;
    this.bytes = Buffer.from(koffi.view(address, length));
  }

  /**
   * Opens the file, or makes it.
   * @param lengthOf how large it shall be, given an open file descriptor and its present size
   * @throws DiskBufferError when another process has it, the disk has no room, or it can't be mapped
   */
  static open(path: string, lengthOf: (fd: number, presentBytes: number) => number): MappedFile {
    const c = loadLibc();
    const fd = openOrFail(path);
    try {
      if (c.flock(fd, LOCK_EXCLUSIVE_NONBLOCKING) !== 0) {
        throw new DiskBufferError(`${path} is in use by another collector. Each needs a directory of its own: set DISK_BUFFER_DIR.`);
      }
      const length = lengthOf(fd, fstatSync(fd).size);
      const failure = c.posix_fallocate(fd, 0, length);
      if (failure !== 0) throw noRoom(path, length, failure);
      const address = c.mmap(null, length, PROT_READ_WRITE, MAP_SHARED, fd, 0);
      if (koffi.address(address) === 0xffff_ffff_ffff_ffffn) throw new DiskBufferError(`${path} can't be mapped into memory (errno ${koffi.errno()}).`);
      return new MappedFile(fd, address, length);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /**
   * Writes a range to the disk, off the event loop.
   * @throws Error with the system's error number when the disk fails
   */
  sync(from: number, to: number): Promise<void> {
    const start = from - (from % PAGE_BYTES);
    return new Promise((resolve, reject) => {
      loadLibc().msync.async(this.addressOf(start), to - start, MS_SYNC, (error, result) => {
        if (error === null && result === 0) return resolve();
        this.redirty(start, to);
        reject(error ?? new Error(`msync failed (errno ${koffi.errno()})`));
      });
    });
  }

  /** The same, at once: at the start, when nobody else has anything to do. @throws Error when the disk fails */
  syncNow(from: number, to: number): void {
    const start = from - (from % PAGE_BYTES);
    if (loadLibc().msync(this.addressOf(start), to - start, MS_SYNC) !== 0) throw new Error(`msync failed (errno ${koffi.errno()})`);
  }

  /** Takes a range, from a page's start on, out of this process's memory. What is in the file stays, and comes back when it is read. */
  forget(from: number, to: number): void {
    loadLibc().madvise(this.addressOf(from), to - from, MADV_DONTNEED);
  }

  /** The kernel takes pages that it failed to write for clean: without this, the next sync would succeed without them. */
  private redirty(from: number, to: number): void {
    for (let at = from; at < to; at += PAGE_BYTES) Atomics.store(this.bytes, at, Atomics.load(this.bytes, at));
  }

  private addressOf(offset: number): bigint {
    return koffi.address(this.address) + BigInt(offset);
  }

  /** Unlocks the file. It stays mapped until the process ends: an insert under way may still read from it. */
  close(): void {
    // The mapping would keep the lock.
    loadLibc().flock(this.fd, LOCK_RELEASE);
    closeSync(this.fd);
  }
}

function openOrFail(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  } catch (error) {
    throw new DiskBufferError(`${path} can't be opened (${(error as NodeJS.ErrnoException).code}). Set DISK_BUFFER_DIR to a directory that the collector may write to.`);
  }
}

function noRoom(path: string, wanted: number, errno: number): DiskBufferError {
  const { bavail, bsize } = statfsSync(dirname(path));
  return new DiskBufferError(
    `The disk buffer wants ${wanted} bytes in ${dirname(path)}, where ${bavail * bsize} are free (errno ${errno}). Make room, or set DISK_BUFFER_MAX_SIZE_MB lower.`,
  );
}
