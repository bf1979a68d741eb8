import { crc32 } from 'node:zlib';
import { readU64, writeU64 } from '../transcode/bytes/u64.ts';

/*
 * A superblock, little-endian. There are two, at offsets 0 and 4096 for every page size of the kernel. The one that is durable is
 * never overwritten: after a crash during a write, the other one is intact.
 *
 *   0  "HIVERING"   8  format version (u32)   12  checksum of 16…80 (u32)
 *  16  generation   24  ring's id (16 bytes)  40  file size   48  tail: offset   56  tail: sequence
 *  64  head: sequence   (u64 each)
 */

const MAGIC = Buffer.from('HIVERING');
/** The version of the ring's format, in each superblock. */
export const FORMAT_VERSION = 1;
const END = 80;
/** Distance between the superblocks, in bytes: part of the format. */
export const SUPERBLOCK_BYTES = 4096;
/** Offset of the first record. */
export const RECORDS_START = 2 * SUPERBLOCK_BYTES;

/** Where the log begins, and how far it was written. */
export interface Superblock {
  /** Counts up with each write: the valid superblock with the higher one is newer. */
  readonly generation: number;
  readonly ringId: Buffer;
  readonly fileBytes: number;
  readonly tailOffset: number;
  readonly tailSequence: number;
  /** The sequence of the next record when this was written: all records before it have been in the file. */
  readonly headSequence: number;
}

/** The result of reading a superblock. */
export type SuperblockReading =
  | { readonly status: 'valid'; readonly superblock: Superblock }
  | { readonly status: 'damaged' }
  /** Has another format version. */
  | { readonly status: 'foreign'; readonly version: number };

/** Writes superblock 0 or 1. */
export function writeSuperblock(bytes: Buffer, index: number, superblock: Superblock): void {
  const at = index * SUPERBLOCK_BYTES;
  writeU64(bytes, superblock.generation, at + 16);
  superblock.ringId.copy(bytes, at + 24);
  writeU64(bytes, superblock.fileBytes, at + 40);
  writeU64(bytes, superblock.tailOffset, at + 48);
  writeU64(bytes, superblock.tailSequence, at + 56);
  writeU64(bytes, superblock.headSequence, at + 64);
  bytes.fill(0, at + 72, at + END);
  bytes.writeUInt32LE(crc32(bytes.subarray(at + 16, at + END)), at + 12);
  bytes.writeUInt32LE(FORMAT_VERSION, at + 8);
  MAGIC.copy(bytes, at);
}

/** Reads superblock 0 or 1. */
export function readSuperblock(bytes: Buffer, index: number): SuperblockReading {
  const at = index * SUPERBLOCK_BYTES;
  if (!bytes.subarray(at, at + 8).equals(MAGIC)) return { status: 'damaged' };
  const version = bytes.readUInt32LE(at + 8);
  if (version !== FORMAT_VERSION) return { status: 'foreign', version };
  if (bytes.readUInt32LE(at + 12) !== crc32(bytes.subarray(at + 16, at + END))) return { status: 'damaged' };
  return {
    status: 'valid',
    superblock: {
      generation: readU64(bytes, at + 16),
      ringId: Buffer.from(bytes.subarray(at + 24, at + 40)),
      fileBytes: readU64(bytes, at + 40),
      tailOffset: readU64(bytes, at + 48),
      tailSequence: readU64(bytes, at + 56),
      headSequence: readU64(bytes, at + 64),
    },
  };
}

/** The valid superblock with the highest generation, and its index (0 or 1); undefined if neither is valid. */
export function newestSuperblock(bytes: Buffer): { readonly index: number; readonly superblock: Superblock } | undefined {
  let newest: { readonly index: number; readonly superblock: Superblock } | undefined;
  for (const index of [0, 1]) {
    const reading = readSuperblock(bytes, index);
    if (reading.status === 'valid' && (newest === undefined || reading.superblock.generation > newest.superblock.generation)) {
      newest = { index, superblock: reading.superblock };
    }
  }
  return newest;
}
