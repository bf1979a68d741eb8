import { closeSync, constants, fstatSync, ftruncateSync, openSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { Logger } from '@nestjs/common';
import { ENOSPC, EWOULDBLOCK, type Libc, LibcError, loadLibc } from '../runtime/libc.ts';
import { RepeatedLine } from '../telemetry/repeated-line.ts';
import { DiskBufferError } from './disk-buffer-error.ts';

const LOGGER = new Logger('DiskBuffer');

/** The unit of `Stats.blocks`. */
export const STAT_BLOCK_BYTES = 512;

/**
 * A file of fixed size, mapped into memory for reading and writing. Data written to `bytes` is in the kernel's page cache at once,
 * and survives the end of this process, even a crash. The file is allocated in full beforehand: a full disk under a sparse mapping
 * would end the process with SIGBUS. A lock ensures that only one process uses the file.
 */
export class MappedFile {
  readonly bytes: Buffer;
  private readonly fd: number;
  private readonly address: bigint;
  private readonly libc: Libc;
  private readonly notForgotten = new RepeatedLine(LOGGER, 'warn', 'The kernel keeps pages of the disk buffer in memory');

  private constructor(fd: number, address: bigint, bytes: Buffer, libc: Libc) {
    this.fd = fd;
    this.address = address;
    this.bytes = bytes;
    this.libc = libc;
  }

  /**
   * Opens the file; creates it if it is missing.
   * @param lengthOf returns the size to give it in bytes, from its file descriptor and its present size
   * @throws DiskBufferError when another process has locked it, the disk has no room, or it can't be mapped
   */
  static open(path: string, lengthOf: (fd: number, presentBytes: number) => number): MappedFile {
    const libc = libcOrFail();
    const fd = openOrFail(path);
    try {
      lockOrFail(libc, fd, path);
      const length = lengthOf(fd, fstatSync(fd).size);
      allocateOrFail(libc, fd, path, length);
      const mapping = libc.map(fd, length);
      if (typeof mapping === 'number') throw new DiskBufferError(`${path} can't be mapped into memory (errno ${mapping}).`);
      return new MappedFile(fd, mapping.address, mapping.bytes, libc);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /**
   * Writes the pages of a range to the disk, outside of the event loop.
   * @throws Error with the system's error number when the disk fails
   */
  async sync(from: number, to: number): Promise<void> {
    const start = this.pageStart(from);
    const errno = await this.libc.syncLater(this.address + BigInt(start), to - start);
    if (errno === 0) return;
    this.redirty(start, to);
    throw syncFailed(errno);
  }

  /** Writes the pages of a range to the disk, and blocks until they are there: for the start. @throws Error when the disk fails */
  syncNow(from: number, to: number): void {
    const start = this.pageStart(from);
    const errno = this.libc.sync(this.address + BigInt(start), to - start);
    if (errno !== 0) throw syncFailed(errno);
  }

  /** Unloads the whole pages within a range from this process's memory. Their data stays in the file, and is loaded again on access. */
  forget(from: number, to: number): void {
    const start = this.pageStart(from + this.libc.pageBytes - 1);
    const end = this.pageStart(to);
    if (start >= end) return;
    const errno = this.libc.forget(this.address + BigInt(start), end - start);
    // A failure costs memory only.
    if (errno !== 0) this.notForgotten.write({ errno });
  }

  /** Loads the pages of a range for writing, outside of the event loop. Resolves to an errno, 0 on success. */
  load(from: number, to: number): Promise<number> {
    const start = this.pageStart(from);
    return this.libc.loadLater(this.address + BigInt(start), to - start);
  }

  /** Marks pages as dirty again. The kernel marks pages clean when it fails to write them: the next sync would succeed without them. */
  private redirty(from: number, to: number): void {
    for (let at = from; at < to; at += this.libc.pageBytes) Atomics.store(this.bytes, at, Atomics.load(this.bytes, at));
  }

  private pageStart(offset: number): number {
    return offset - (offset % this.libc.pageBytes);
  }

  /** Unlocks and closes the file. It stays mapped until the process ends: an insert in flight may still read from it. */
  close(): void {
    // The lock would last as long as the mapping.
    const errno = this.libc.unlock(this.fd);
    if (errno !== 0) LOGGER.warn({ errno, msg: "The disk buffer can't be unlocked until this process ends" });
    closeSync(this.fd);
  }
}

/**
 * Locks the file of a ring for this process.
 * @throws DiskBufferError when another process has locked it, or has replaced the file since it was opened
 */
export function lockOrFail(libc: Libc, fd: number, path: string): void {
  const locked = libc.lock(fd);
  const isReplaced = statSync(path, { throwIfNoEntry: false })?.ino !== fstatSync(fd).ino;
  if (locked === EWOULDBLOCK || isReplaced) {
    throw new DiskBufferError(`${path} is in use by another collector. Each collector needs its own directory: set DISK_BUFFER_DIR.`);
  }
  if (locked === 0) return;
  throw new DiskBufferError(`${path} can't be locked (errno ${locked}). Set DISK_BUFFER_DIR to a file system that supports locks.`);
}

function syncFailed(errno: number): Error {
  return new Error(`msync failed (errno ${errno})`);
}

function openOrFail(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  } catch (error) {
    throw new DiskBufferError(
      `${path} can't be opened (${(error as NodeJS.ErrnoException).code}). ` +
        'Set DISK_BUFFER_DIR to a directory that the collector may write to.',
    );
  }
}

/** Loads the system calls. @throws DiskBufferError when they are not available here */
export function libcOrFail(): Libc {
  try {
    return loadLibc();
  } catch (error) {
    throw error instanceof LibcError ? new DiskBufferError(error.message) : error;
  }
}

/**
 * Allocates the file in full. If that fails, the file keeps its size: an allocation larger than the disk would first fill the disk.
 * @throws DiskBufferError when the disk has no room
 */
function allocateOrFail(libc: Libc, fd: number, path: string, length: number): void {
  const { size, blocks } = fstatSync(fd);
  const free = freeBytes(path);
  // Not for a file of that size: one that the file system compresses takes fewer blocks.
  const isTooLarge = size < length && length - blocks * STAT_BLOCK_BYTES > free;
  const errno = isTooLarge ? ENOSPC : libc.allocate(fd, length);
  if (errno === 0) return;
  ftruncateSync(fd, size);
  throw new DiskBufferError(
    `The disk buffer needs ${length} bytes in ${dirname(path)}, where ${free} are free (errno ${errno}). ` +
      'Free disk space, or lower DISK_BUFFER_MAX_SIZE_MB.',
  );
}

/** Bytes that are free on the disk of a file. Infinity where the file system does not know. */
export function freeBytes(path: string): number {
  const { blocks, bavail, bsize } = statfsSync(dirname(path));
  return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize;
}
