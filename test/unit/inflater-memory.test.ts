import { constants, zstdCompressSync, zstdDecompressSync, type ZstdOptions } from 'node:zlib';
import { expect, test } from 'vitest';
import { inflaterMemory } from '../../src/bodies/inflater-memory.ts';

/* What zstd asks for is in the first bytes of a frame (RFC 8878, 3.1.1.1). zstd itself says whether it was read rightly. */

const MB = 1024 ** 2;

const sizes = [0, 1, 255, 256, 257, 65_791, 65_792, 100_000, MB, 3 * MB, 8 * MB];
const windows = [10, 17, 18, 20, 21, 23];

test.each(sizes.flatMap((bytes) => windows.flatMap((window) => [0, 1].map((contentSize) => ({ bytes, window, contentSize })))))(
  '$bytes bytes with a window of 2^$window, the length is told: $contentSize',
  ({ bytes, window, contentSize }) => {
    const frame = compressed(bytes, { [constants.ZSTD_c_windowLog]: window, [constants.ZSTD_c_contentSizeFlag]: contentSize });
    const { windowLog, bytes: reserved } = inflaterMemory('zstd', [frame]);
    expect(zstdDecompressSync(frame, { params: { [constants.ZSTD_d_windowLogMax]: windowLog } })).toHaveLength(bytes);
    // One less would not do, or it is the least that is ever reserved.
    if (windowLog > 17) expect(2 ** windowLog).toBeLessThan(2 * Math.min(2 ** window, Math.max(bytes, 1)) + 1);
    expect(reserved).toBe(512 * 1024 + 2 ** windowLog);
    expect(
      inflaterMemory(
        'zstd',
        Array.from(frame, (byte) => Uint8Array.of(byte)),
      ),
    ).toEqual({ windowLog, bytes: reserved });
  },
);

test('a frame that asks for more than HTTP allows gets no more', () => {
  // Its magic, no flag, and a Window_Descriptor of 2^27.
  expect(inflaterMemory('zstd', [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3])]).windowLog).toBe(23);
  expect(inflaterMemory('zstd', [Buffer.from([])]).windowLog).toBe(17);
  expect(inflaterMemory('gzip', [Buffer.from([])]).bytes).toBe(128 * 1024);
});

function compressed(bytes: number, params: NonNullable<ZstdOptions['params']>): Buffer {
  return zstdCompressSync(Buffer.alloc(bytes, 'abc'), { params });
}
