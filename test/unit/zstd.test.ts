import { zstdDecompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { isOff } from '../../src/runtime/internals.ts';
import { compress, compressReusing } from '../../src/runtime/zstd.ts';
import { Random } from '../support/generators/random.ts';

const random = new Random(1);
const noise = random.bytes(5_000_000);
const text = Buffer.from(Array.from({ length: 400_000 }, () => random.pick(['POST', 'subgraph', 'hive'])).join(' ')).subarray(0, 2_000_000);

test.each([0, 1, 100, 20_000, 131_072, 500_000, 2_000_000, 2_097_152, 2_097_153, 5_000_000])(
  'a block of %i bytes comes back, noise or text, however often',
  (length) => {
    for (const bytes of [noise, text, noise, text]) {
      const block = bytes.subarray(0, length);
      expect(zstdDecompressSync(compress(block)).equals(block)).toBe(true);
    }
  },
);

test('a frame says how long its block is, and has memory of its own', () => {
  const frames = [text, noise.subarray(0, 100_000), text.subarray(1)].map(compress);
  // Frame_Header_Descriptor, RFC 8878, 3.1.1.1.1: with Single_Segment_flag or Frame_Content_Size_flag there is a content size.
  for (const frame of frames) expect(frame[4] & 0b1110_0000).toBeGreaterThan(0);
  expect(zstdDecompressSync(frames[0]).equals(text)).toBe(true);
});

test.skipIf(isOff('zstd-reuse'))('this Node lets a compressor be used again', () => {
  expect(compressReusing(text)).toBeDefined();
});
