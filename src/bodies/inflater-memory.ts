import type { Compression } from '../otlp/content.ts';

/** 8 MB: the largest window that a zstd stream in HTTP may ask for (RFC 9659). */
const MAX_WINDOW_LOG = 23;
/** Of a frame whose header is not to be read: zstd's own blocks take as much. */
const MIN_WINDOW_LOG = 17;
/** What zstd takes beside the window: its tables, and a block in and one out. */
const ZSTD_BYTES = 512 * 1024;
/** What zlib takes: a window of 32 KB, its tables, and a chunk of what comes out. */
const ZLIB_BYTES = 128 * 1024;
const ZSTD_MAGIC = 0xfd2fb528;
const SINGLE_SEGMENT = 0x20;

export interface InflaterMemory {
  /** What an inflater takes while it runs. */
  readonly bytes: number;
  /** The largest window that it may be asked for, as a power of two. A later frame of the same body that asks for more is refused. */
  readonly windowLog: number;
}

/** What it takes to inflate a body, as its first bytes say. @param chunks the body */
export function inflaterMemory(compression: Exclude<Compression, 'identity'>, chunks: readonly Uint8Array[]): InflaterMemory {
  if (compression !== 'zstd') return { bytes: ZLIB_BYTES, windowLog: 0 };
  const windowLog = Math.min(MAX_WINDOW_LOG, Math.max(MIN_WINDOW_LOG, Math.ceil(Math.log2(windowBytes(header(chunks))))));
  return { bytes: ZSTD_BYTES + 2 ** windowLog, windowLog };
}

/**
 * Window_Size of a zstd frame (RFC 8878, 3.1.1.1): of its Window_Descriptor, or the length of all it holds. 1 where there is none:
 * a skippable frame comes first, or it is no zstd.
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

/** The first bytes, with zeros behind them: enough for every header. */
function header(chunks: readonly Uint8Array[]): Buffer {
  const longest = 18;
  const first: Uint8Array[] = [];
  for (let count = 0, length = 0; count < chunks.length && length < longest; length += chunks[count++].length) first.push(chunks[count]);
  return Buffer.concat(first, longest);
}
