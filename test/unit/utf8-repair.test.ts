import { isUtf8 } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { repairUtf8 } from '../../src/transcode/bytes/utf8-repair.ts';
import { Random } from '../support/generators/random.ts';

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Leads and continuation bytes at the ends of their ranges, so that random bytes are often nearly characters. */
const BYTES = [
  0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff,
];

describe('repaired text', () => {
  test('every sequence of up to three such bytes is what TextDecoder makes of it', () => {
    for (const one of BYTES) {
      for (const two of BYTES) {
        for (const three of BYTES) {
          for (const bytes of [[one], [one, two], [one, two, three]]) expectDecoded(Uint8Array.from(bytes));
        }
      }
    }
  });

  test('so are longer texts', () => {
    const random = new Random(17);
    for (let round = 0; round < 20_000; round++) expectDecoded(Uint8Array.from({ length: random.below(24) }, () => random.pick(BYTES)));
  });

  test('what is UTF-8 is not copied', () => {
    for (const text of ['', 'plain', 'Ä€😀\u{10ffff}\ufffd\ufeff\0']) {
      const bytes = Buffer.from(text);
      expect(repairUtf8(bytes)).toBe(bytes);
    }
  });
});

function expectDecoded(bytes: Uint8Array): void {
  const repaired = repairUtf8(bytes);
  const expected = Buffer.from(decoder.decode(bytes));
  if (Buffer.compare(repaired, expected) !== 0 || !isUtf8(repaired))
    expect([...repaired], Buffer.from(bytes).toString('hex')).toEqual([...expected]);
}
