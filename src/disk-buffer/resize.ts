import {
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  type Stats,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import type { Libc } from '../runtime/libc.ts';
import { DiskBufferError } from './disk-buffer-error.ts';
import { STAT_BLOCK_BYTES, freeBytes, libcOrFail, lockOrFail } from './mapped-file.ts';
import { ALIGNMENT, HEADER_BYTES, Kind, RecordFormat, type RecordHeader, recordBytes } from './record.ts';
import { recover } from './recovery.ts';
import { unreadable } from './ring.ts';
import { newestSuperblock, RECORDS_START, type Superblock, writeSuperblock } from './superblock.ts';

const MB = 1024 ** 2;

/** The result of a resize. */
export interface Resized {
  /** The old size of the file. */
  readonly fromBytes: number;
  /** Spans that were moved to the new file. */
  readonly spans: number;
}

/**
 * Resizes a ring: writes a second file with the records that are not in ClickHouse, and renames it over the first. A crash before the
 * rename leaves the old ring unchanged; a crash after it, the new one. The ring's id, the sequences of the records and their inserts
 * stay the same: ClickHouse recognizes an insert that is sent again.
 * @param toBytes the new size of the file
 * @throws DiskBufferError when a collector has it open, it is damaged, or its spans or the new file do not fit: it is then unchanged
 */
export function resizeRing(path: string, toBytes: number): Resized {
  const libc = libcOrFail();
  const fd = openSync(path, 'r');
  try {
    lockOrFail(libc, fd, path);
    const unfinished = `${path}.unfinished`;
    rmSync(unfinished, { force: true });
    const superblock = readNewest(fd, path);
    const fromBytes = superblock.fileBytes;
    if (fromBytes === toBytes) return { fromBytes, spans: 0 };
    const { pieces, spans } = piecesOf(libc, fd, path, superblock, toBytes);
    const copied = pieces.reduce((sum, { length }) => sum + length, 0);
    if (copied > toBytes) throw failed(path, `its spans take ${inMb(copied)}. Choose a larger size, or let a collector send them first`);
    const old = fstatSync(fd);
    const free = freeBytes(path);
    const wanted = Math.max(copied, toBytes - old.blocks * STAT_BLOCK_BYTES);
    if (wanted > free) throw failed(path, `that takes ${inMb(wanted)} more in ${dirname(path)}, where ${inMb(free)} are free`);
    try {
      replace(libc, path, unfinished, { old, toBytes, isRoomForBoth: toBytes <= free }, pieces);
    } catch (error) {
      rmSync(unfinished, { force: true });
      throw failed(path, (error as Error).message);
    }
    return { fromBytes, spans };
  } finally {
    closeSync(fd);
  }
}

function readNewest(fd: number, path: string): Superblock {
  const bytes = Buffer.alloc(RECORDS_START);
  readSync(fd, bytes, 0, RECORDS_START, 0);
  const newest = newestSuperblock(bytes);
  if (newest === undefined) throw unreadable(bytes, path);
  if (fstatSync(fd).size < newest.superblock.fileBytes)
    throw failed(path, 'it is truncated. Start a collector on it first: it sends the rest');
  return newest.superblock;
}

/** The contents of the new file, from its start. Finished records between pending ones become padding: sequences have no gaps. */
function piecesOf(libc: Libc, fd: number, path: string, superblock: Superblock, toBytes: number): { pieces: Buffer[]; spans: number } {
  // Recovery repairs damage in the private mapping only: repairing the file is left to the collector, which reports the damage.
  const mapping = libc.mapPrivately(fd, superblock.fileBytes);
  if (typeof mapping === 'number') throw failed(path, `it can't be mapped into memory (errno ${mapping})`);
  const { bytes } = mapping;
  const format = new RecordFormat(bytes, superblock.ringId);
  const { records, nextSequence, damage } = recover(format, superblock, bytes.length - (bytes.length % ALIGNMENT));
  if (damage.length > 0) throw failed(path, 'it is damaged. Start a collector on it first: it reports the damage and sends the rest');
  const isPending = ({ kind, offset }: RecordHeader) => kind === Kind.block && format.isPending(offset);
  const first = records.findIndex(isPending);
  const kept = first < 0 ? [] : records.slice(first);
  const padding = Buffer.alloc(HEADER_BYTES);
  const paddings = new RecordFormat(padding, superblock.ringId);
  const pieces = kept.map((header) => {
    if (isPending(header)) return bytes.subarray(header.offset, header.offset + recordBytes(header.payloadLength));
    paddings.writePadding(0, HEADER_BYTES, header.sequence);
    return Buffer.from(padding);
  });
  const head = Buffer.alloc(RECORDS_START);
  const renewed: Superblock = {
    ringId: superblock.ringId,
    generation: superblock.generation + 1,
    fileBytes: toBytes,
    tailOffset: RECORDS_START,
    tailSequence: kept[0]?.sequence ?? nextSequence,
    headSequence: nextSequence,
  };
  for (const index of [0, 1]) writeSuperblock(head, index, renewed);
  return { pieces: [head, ...pieces], spans: kept.filter(isPending).reduce((sum, { rows }) => sum + rows, 0) };
}

interface NewFile {
  /** Of the replaced file: the new one gets its owner and mode, so that the collector's user can open it. */
  readonly old: Stats;
  readonly toBytes: number;
  /** Whether both files fit on the disk. Otherwise the new one is allocated in full only after the old one is gone. */
  readonly isRoomForBoth: boolean;
}

/** Writes the new file, and renames it over the old one. @throws Error when the disk fails */
function replace(libc: Libc, path: string, unfinished: string, { old, toBytes, isRoomForBoth }: NewFile, pieces: readonly Buffer[]): void {
  const fd = openSync(unfinished, 'w', old.mode);
  try {
    fchmodSync(fd, old.mode);
    fchownSync(fd, old.uid, old.gid);
    if (isRoomForBoth) allocate(libc, fd, toBytes);
    let at = 0;
    for (const piece of pieces) at += writeWhole(fd, piece, at);
    fsyncSync(fd);
    renameSync(unfinished, path);
    syncParent(path);
    if (!isRoomForBoth) allocate(libc, fd, toBytes);
  } finally {
    closeSync(fd);
  }
}

function allocate(libc: Libc, fd: number, bytes: number): void {
  const errno = libc.allocate(fd, bytes);
  if (errno !== 0) throw new Error(`${inMb(bytes)} can't be allocated (errno ${errno})`);
}

function writeWhole(fd: number, piece: Buffer, at: number): number {
  for (let written = 0; written < piece.length;) written += writeSync(fd, piece, written, piece.length - written, at + written);
  return piece.length;
}

function syncParent(path: string): void {
  const directory = openSync(dirname(path), 'r');
  fsyncSync(directory);
  closeSync(directory);
}

function inMb(bytes: number): string {
  return `${Math.ceil(bytes / MB)} MB`;
}

function failed(path: string, reason: string): DiskBufferError {
  return new DiskBufferError(`${path} can't be resized: ${reason}.`);
}
