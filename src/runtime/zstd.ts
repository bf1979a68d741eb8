import { constants, createZstdCompress, type ZstdCompress, zstdCompressSync } from 'node:zlib';
import { freeBuffer } from './free-buffer.ts';
import { isOff, reportFailed, reportMissing } from './internals.ts';

/**
 * Level 1 with a smaller window and hash table, which stay in the processor's cache: a sixth faster with the same size, as values in
 * a column repeat at short distances. Faster levels make the frames 50 % larger.
 */
const params = {
  [constants.ZSTD_c_compressionLevel]: 1,
  [constants.ZSTD_c_windowLog]: 18,
  [constants.ZSTD_c_hashLog]: 13,
};

/** Largest block that is compressed with the reused output buffer: larger ones are rare. */
const MAX_KEPT_BYTES = 2 * 1024 * 1024;

/** Compresses a block to one zstd frame. */
export function compress(block: Uint8Array): Buffer {
  return (block.length <= MAX_KEPT_BYTES ? compressReusing(block) : undefined) ?? compressOnce(block);
}

/*
 * zlib.zstdCompressSync creates a stream and a zstd context for each call, which costs as much as compressing a small block. Node has
 * no public way to reuse them, so this uses the internals of its streams (as npm's minizlib does). If these change, everything works
 * as before, only slower; test/unit/zstd.test.ts would fail.
 */

interface Internals {
  readonly _handle: {
    writeSync(
      flush: number,
      input: Uint8Array,
      inputAt: number,
      inputLength: number,
      output: Uint8Array,
      outputAt: number,
      outputLength: number,
    ): void;
  };
  /** Remaining bytes of the output, and of the input. */
  readonly _writeState: Uint32Array;
}

const engine = findEngine();
let output: Buffer | undefined;

function findEngine(): (ZstdCompress & Internals) | undefined {
  if (isOff('zstd-reuse')) return undefined;
  const made: ZstdCompress & { readonly _handle?: Partial<Internals['_handle']> | null; readonly _writeState?: Uint32Array } =
    createZstdCompress({ params });
  if (typeof made._handle?.writeSync === 'function' && made._writeState !== undefined) return made as ZstdCompress & Internals;
  reportMissing('zstd-reuse');
  return undefined;
}

/** Compresses with the reused context; undefined if it is not available, or the block could not be compressed in one call. */
export function compressReusing(block: Uint8Array): Buffer | undefined {
  if (engine === undefined) return undefined;
  const { _handle: handle, _writeState: state } = engine;
  // The kernel provides the pages when they are first written.
  output ??= Buffer.allocUnsafeSlow(mostBytes(MAX_KEPT_BYTES));
  handle.writeSync(constants.ZSTD_e_end, block, 0, block.length, output, 0, output.length);
  if (engine.destroyed) reportFailed('zstd-reuse');
  const [outputLeft, inputLeft] = state;
  return inputLeft === 0 && outputLeft > 0 && !engine.destroyed ? Buffer.from(output.subarray(0, output.length - outputLeft)) : undefined;
}

/** The largest frame of a block, in bytes: zstd's ZSTD_COMPRESSBOUND. */
function mostBytes(blockBytes: number): number {
  return blockBytes + (blockBytes >> 8) + (Math.max(0, 128 * 1024 - blockBytes) >> 11);
}

function compressOnce(block: Uint8Array): Buffer {
  // An odd size: no pool of Node has it, so below it identifies a buffer of the compressor's own.
  const chunkSize = Math.max(16_384, block.length >> 2) | 1;
  const frame = zstdCompressSync(block, { params, chunkSize });
  const written = frame.buffer;
  if (written.byteLength !== chunkSize || frame.length >= chunkSize / 2) return frame;
  // The small frame would keep the whole buffer in memory until it is inserted.
  const copy = Buffer.from(frame);
  freeBuffer(new Uint8Array(written));
  return copy;
}
