import { closeSync, fstatSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DiskBufferError } from './disk-buffer-error.ts';
import { ALIGNMENT, Kind, RecordFormat, type RecordHeader, State } from './record.ts';
import { recover, type Recovered } from './recovery.ts';
import { tokenOf, unreadable } from './ring.ts';
import { newestSuperblock, readSuperblock, RECORDS_START, type Superblock, type SuperblockReading } from './superblock.ts';

/** Bytes read at once: a single read(2) returns 2 GB at most. */
const READ_BYTES = 64 * 1024 ** 2;

/** A block in the ring that is still to be inserted, as far as is known. */
export interface PendingBlock {
  readonly header: RecordHeader;
  /** The deduplication token of its insert; undefined if it has none yet. */
  readonly token: string | undefined;
}

/**
 * A read-only copy of a ring, for inspection: of a dead node, or of a running collector. The whole file is copied to memory and
 * recovered there, by the same code as at a start. The file is neither locked nor changed.
 */
export class RingImage {
  readonly path: string;
  readonly bytes: Buffer;
  readonly fileBytes: number;
  /** The id of the process on this machine that has the ring open, if any. */
  readonly heldBy: number | undefined;
  readonly superblocks: readonly SuperblockReading[];
  readonly newest: Superblock;
  readonly format: RecordFormat;
  readonly log: Recovered;

  /**
   * @param dir the collector's DISK_BUFFER_DIR
   * @throws DiskBufferError when there is no ring, or none that this version can read
   */
  constructor(dir: string) {
    this.path = ringPath(dir);
    this.heldBy = lockHolder(this.path);
    const { bytes, fileBytes } = readWhole(this.path);
    this.fileBytes = fileBytes;
    this.superblocks = [0, 1].map((index) => readSuperblock(bytes, index));
    const newest = newestSuperblock(bytes);
    if (newest === undefined) throw unreadable(bytes, this.path);
    this.newest = newest.superblock;
    // A truncated file is read as at a start: the missing part as zeros.
    this.bytes =
      bytes.length < this.newest.fileBytes ? Buffer.concat([bytes], this.newest.fileBytes) : bytes.subarray(0, this.newest.fileBytes);
    this.format = new RecordFormat(this.bytes, this.newest.ringId);
    this.log = recover(this.format, this.newest, this.bytes.length - (this.bytes.length % ALIGNMENT));
  }

  get ringId(): string {
    return this.newest.ringId.toString('hex');
  }

  get capacityBytes(): number {
    return this.bytes.length - RECORDS_START;
  }

  get blocks(): readonly RecordHeader[] {
    return this.log.records.filter(({ kind }) => kind === Kind.block);
  }

  /** The blocks that are still to be inserted, as far as is known, oldest first. */
  get pending(): readonly PendingBlock[] {
    return this.blocks
      .filter(({ offset }) => this.format.isPending(offset))
      .map((header) => ({ header, token: this.format.state(header.offset) === State.assigned ? this.tokenAt(header) : undefined }));
  }

  /** The deduplication token of an assigned record. */
  tokenAt({ offset }: RecordHeader): string {
    return tokenOf(this.ringId, this.format.insertOf(offset)!);
  }
}

/** The path of the ring in a directory; `dir` may also be the path of the ring itself. @throws DiskBufferError when there is none */
export function ringPath(dir: string): string {
  const status = statSync(dir, { throwIfNoEntry: false });
  if (status === undefined) throw new DiskBufferError(`There is no directory ${dir}. Use the DISK_BUFFER_DIR of a collector.`);
  if (!status.isDirectory()) return dir;
  const path = join(dir, 'ring');
  if (statSync(path, { throwIfNoEntry: false }) === undefined)
    throw new DiskBufferError(`There is no disk buffer in ${dir}: it has no file called ring. Use the DISK_BUFFER_DIR of a collector.`);
  return path;
}

function readWhole(path: string): { bytes: Buffer; fileBytes: number } {
  let fd: number | undefined;
  try {
    fd = openSync(path, 'r');
    const { size } = fstatSync(fd);
    if (size < RECORDS_START) throw new DiskBufferError(`${path} is not a disk buffer: it has ${size} bytes.`);
    const bytes = Buffer.alloc(size);
    for (let at = 0; at < size;) {
      const read = readSync(fd, bytes, at, Math.min(READ_BYTES, size - at), at);
      if (read === 0) break;
      at += read;
    }
    return { bytes, fileBytes: size };
  } catch (error) {
    if (error instanceof DiskBufferError) throw error;
    throw new DiskBufferError(`${path} can't be read (${(error as NodeJS.ErrnoException).code}).`);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/**
 * The id of the process that holds the file's lock, from /proc/locks (proc_locks(5)):
 * `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234567 0 EOF`, with the device in hex before the inode.
 */
function lockHolder(path: string): number | undefined {
  const { dev, ino } = statSync(path, { bigint: true });
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  const file = `${[major, minor].map((part) => part.toString(16).padStart(2, '0')).join(':')}:${ino}`;
  try {
    const lines = readFileSync('/proc/locks', 'latin1').split('\n');
    const words = lines.map((line) => line.trim().split(/\s+/)).find((line) => line[1] === 'FLOCK' && line[5] === file);
    return words === undefined ? undefined : Number(words[4]);
  } catch {
    // No /proc outside of Linux, where no collector can have a ring open.
    return undefined;
  }
}
