import { zstdDecompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { readNativeBlocks } from '../../src/cli/native-reader.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { NotANativeBlock } from '../../src/transcode/native/native-cursor.ts';
import { NativeRows, type RowRange } from '../../src/transcode/native/native-rows.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { randomRequest } from '../support/generators/random-requests.ts';
import { Random } from '../support/generators/random.ts';

/** One Native block of random requests, not compressed. */
function blockOf(random: Random, requests: number): Buffer {
  const encoder = new BlockEncoder(random.pick(['hive', 'otelcol']));
  for (let i = 0; i < requests; i++) encoder.add([randomRequest(random, 'usual').canonical], 'protobuf', `target-${i}`);
  return zstdDecompressSync(encoder.seal().frame);
}

function randomRanges(random: Random, rows: number): RowRange[] {
  const ranges: RowRange[] = [];
  for (let at = random.below(rows); at < rows; at += 1 + random.below(4)) {
    const to = Math.min(rows, at + 1 + random.below(5));
    ranges.push([at, to]);
    at = to;
  }
  return ranges;
}

describe('rows of a Native block', () => {
  test('are those of the block, whichever are taken, as another reader sees them', async () => {
    const random = new Random(17);
    for (let run = 0; run < 60; run++) {
      const bytes = blockOf(random, 1 + random.below(8));
      const [whole] = readNativeBlocks(bytes);
      if (whole.rows === 0) continue;
      const rows = await NativeRows.parse(bytes);
      expect(rows.rows).toBe(whole.rows);
      const ranges = randomRanges(random, whole.rows);
      const [part, ...others] = readNativeBlocks(await rows.select(ranges));
      expect(others).toEqual([]);
      for (const [name, values] of whole.columns)
        expect(part.columns.get(name), name).toEqual(ranges.flatMap(([from, to]) => values.slice(from, to)));
    }
  });

  test('all of them make the same bytes again, and so do the same ones each time', async () => {
    const encoder = new BlockEncoder('hive');
    encoder.add([gatewayProtobuf({ spans: 700, seed: 3 }).body], 'protobuf', 'target');
    const bytes = zstdDecompressSync(encoder.seal().frame);
    const rows = await NativeRows.parse(bytes);
    const once = await rows.select([
      [0, 10],
      [50, 700],
    ]);
    expect(
      (
        await rows.select([
          [0, 10],
          [50, 700],
        ])
      ).equals(once),
    ).toBe(true);
    expect(readNativeBlocks(await rows.select([[0, 700]]))).toEqual(readNativeBlocks(bytes));
    expect((await (await NativeRows.parse(once)).select([[0, 660]])).equals(once)).toBe(true);
  });

  test('of bytes that are no block, or that are cut off or changed somewhere, none are read, and nothing else goes wrong', async () => {
    const random = new Random(4);
    const bytes = blockOf(random, 4);
    for (let length = 0; length < bytes.length; length += 7)
      await expect(NativeRows.parse(bytes.subarray(0, length))).rejects.toThrow(NotANativeBlock);
    for (let run = 0; run < 500; run++) {
      const changed = Buffer.from(bytes);
      changed[random.below(changed.length)] ^= 1 << random.below(8);
      try {
        const rows = await NativeRows.parse(changed);
        await rows.select([[0, rows.rows]]);
      } catch (error) {
        expect(error).toBeInstanceOf(NotANativeBlock);
      }
    }
  });
});
