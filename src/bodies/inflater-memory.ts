import type { Compression } from '../otlp/content.ts';

/** 8 MB: the largest window of a zstd stream over HTTP (RFC 9659). */
const MAX_WINDOW_LOG = 23;
/** For a frame whose header can't be read: zstd's blocks alone take this much. */
const MIN_WINDOW_LOG = 17;
/** Memory of zstd in addition to the window: its tables, an input and an output block. */
const ZSTD_BYTES = 512 * 1024;
/** Memory of zlib: a window of 32 KB, its tables, and a chunk of output. */
const ZLIB_BYTES = 128 * 1024;
const ZSTD_MAGIC = 0xfd2fb528;
const SINGLE_SEGMENT = 0x20;

/** The memory needed to inflate a body. */
export interface InflaterMemory {
  /** Memory of the inflater while it runs, in bytes. */
  readonly bytes: number;
  /** The largest window that it accepts, as a power of two. A later frame of the body with a larger one is refused. */
  readonly windowLog: number;
}

/** Reads the memory needed to inflate a body from its first bytes. @param chunks the body */
export function inflaterMemory(compression: Exclude<Compression, 'identity'>, chunks: readonly Uint8Array[]): InflaterMemory {
  if (compression !== 'zstd') return { bytes: ZLIB_BYTES, windowLog: 0 };
  const windowLog = Math.min(MAX_WINDOW_LOG, Math.max(MIN_WINDOW_LOG, Math.ceil(Math.log2(windowBytes(header(chunks))))));
  return { bytes: ZSTD_BYTES + 2 ** windowLog, windowLog };
}

/**
 * The Window_Size of a zstd frame (RFC 8878, 3.1.1.1), from its Window_Descriptor or its content size. 1 if it has neither: the body
 * begins with a skippable frame, or is not zstd.
 */
function windowBytes(frame: Buffer): number {
  if (frame.readUInt32LE(0) !== ZSTD_MAGIC) return 1;
  const descriptor = frame[4];
  if ((descriptor & SINGLE_SEGMENT) === 0) {
    const base = 2 ** (10 + (frame[5] >> 3));
    return base + (base / 8) * (frame[5] & 7);
  }
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3];
  const at = 5 + dictionaryBytes;
  switch (descriptor >> 6) {
    case 0:
      return frame[at] + 1;
    case 1:
      return frame.readUInt16LE(at) + 256;
    case 2:
      return frame.readUInt32LE(at) + 1;
    default:
      return Math.min(Number.MAX_SAFE_INTEGER, Number(frame.readBigUInt64LE(at)) + 1);
  }
}

/** The first bytes, padded with zeros: enough for any header. */
function header(chunks: readonly Uint8Array[]): Buffer {
  const longest = 18;
  const first: Uint8Array[] = [];
  for (let count = 0, length = 0; count < chunks.length && length < longest; length += chunks[count++].length) first.push(chunks[count]);
  return Buffer.concat(first, longest);
}
