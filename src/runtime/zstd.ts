import { constants, createZstdCompress, type ZstdCompress, zstdCompressSync } from 'node:zlib';
import { freeBuffer } from './free-buffer.ts';
import { isOff, reportMissing } from './internals.ts';

/**
 * Level 1 with a smaller window and table, which stay in the processor's cache: a sixth faster, and no larger, as what
 * repeats in a column repeats soon. Faster levels give frames half as large again.
 */
const params = {
  [constants.ZSTD_c_compressionLevel]: 1,
  [constants.ZSTD_c_windowLog]: 18,
  [constants.ZSTD_c_hashLog]: 13,
};

/** Longer blocks are rare. The memory for their frames is not kept. */
const MAX_KEPT_BYTES = 2 * 1024 * 1024;

/** A block as one zstd frame. */
export function compress(block: Uint8Array): Buffer {
  return (block.length <= MAX_KEPT_BYTES ? compressAgain(block) : undefined) ?? compressOnce(block);
}

/*
 * zlib.zstdCompressSync makes a stream and a context of zstd's for each call, which costs as much as compressing a small block.
 * Node has no public way to use them again, so this leans on how its streams write (as npm's own minizlib does). Were that to
 * change, all would work as before, only slower; test/unit/zstd.test.ts would tell.
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
  /** Bytes that are left of the output, and of the input. */
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

/** @returns undefined when that is not possible */
export function compressAgain(block: Uint8Array): Buffer | undefined {
  if (engine === undefined) return undefined;
  const { _handle: handle, _writeState: state } = engine;
  // Memory is only taken where it is written to.
  output ??= Buffer.allocUnsafeSlow(mostBytes(MAX_KEPT_BYTES));
  handle.writeSync(constants.ZSTD_e_end, block, 0, block.length, output, 0, output.length);
  const [outputLeft, inputLeft] = state;
  return inputLeft === 0 && outputLeft > 0 && !engine.destroyed ? Buffer.from(output.subarray(0, output.length - outputLeft)) : undefined;
}

/** The longest frame of a block: zstd's ZSTD_COMPRESSBOUND. */
function mostBytes(blockBytes: number): number {
  return blockBytes + (blockBytes >> 8) + (Math.max(0, 128 * 1024 - blockBytes) >> 11);
}

function compressOnce(block: Uint8Array): Buffer {
  // Odd, which tells the memory that the compressor writes to from Node's pool, which others share.
  const chunkSize = Math.max(16_384, block.length >> 2) | 1;
  const frame = zstdCompressSync(block, { params, chunkSize });
  const written = frame.buffer;
  if (written.byteLength !== chunkSize || frame.length >= chunkSize / 2) return frame;
  // It would be held for as long as the small piece of it waits to be inserted.
  const copy = Buffer.from(frame);
  freeBuffer(new Uint8Array(written));
  return copy;
}
