import { describe, expect, test } from 'vitest';
import { ByteBuffer } from '../../src/transcode/bytes/byte-buffer.ts';
import { Dictionary } from '../../src/transcode/columns/dictionary.ts';
import { LowCardinalityColumn } from '../../src/transcode/columns/low-cardinality-column.ts';
import { stringsOfEqualHash } from '../support/generators/equal-hashes.ts';
import { Random } from '../support/generators/random.ts';

describe('a dictionary', () => {
  test('numbers strings as a Map would, also after entries were taken back', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = new Random(seed);
      const dictionary = new Dictionary();
      let model: string[] = [];
      for (let step = 0; step < 3000; step++) {
        const text = 'x'.repeat(random.below(12)) + random.below(random.pick([10, 1000]));
        const known = model.indexOf(text);
        const index = indexOf(dictionary, text);
        if (known < 0) model.push(text);
        expect(index, `seed ${seed}, step ${step}`).toBe(known < 0 ? model.length - 1 : known);
        if (random.chance(0.01)) {
          model = model.slice(0, random.below(model.length + 1));
          dictionary.truncate(model.length);
        }
        if (random.chance(0.001)) {
          model = [];
          dictionary.reset();
        }
      }
      expect(keysOf(dictionary)).toEqual(model);
    }
  });

  test('tells strings apart that differ in their last byte, in length, or in zeros at the end', () => {
    const dictionary = new Dictionary();
    const texts = Array.from({ length: 300 }, (_, length) => [
      'a'.repeat(length),
      `${'a'.repeat(length)}b`,
      `${'a'.repeat(length)}\0`,
    ]).flat();
    const distinct = [...new Set(texts)];
    for (const [index, text] of distinct.entries()) expect(indexOf(dictionary, text)).toBe(index);
    for (const [index, text] of distinct.entries()) expect(indexOf(dictionary, text)).toBe(index);
  });

  test('gives up looking for a string that shares its hash with hundreds, and adds it again: what it returns is still right', () => {
    const flood = stringsOfEqualHash(200);
    const dictionary = new Dictionary();
    for (const text of flood) indexOf(dictionary, text);
    const again = flood.map((text) => indexOf(dictionary, text));
    const keys = keysOf(dictionary);
    expect(again.map((index) => keys[index])).toEqual(flood);
    expect(again[0]).toBe(0);
    expect(again.at(-1)).toBeGreaterThanOrEqual(flood.length);
    // No more than it was asked for.
    expect(keys.length).toBeLessThanOrEqual(2 * flood.length);

    dictionary.truncate(10);
    expect(flood.slice(0, 10).map((text) => indexOf(dictionary, text))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(indexOf(dictionary, 'another')).toBe(10);
  });
});

test('a column keeps its rows when its indexes grow to two and four bytes, and when rows are taken back after that', () => {
  const column = new LowCardinalityColumn();
  const rows = () => Array.from({ length: column.rows }, (_, row) => column.at(row));
  const append = (from: number, to: number) => {
    for (const index of indexes(from, to)) expect(column.append(ascii(`value ${index}`), 0, `value ${index}`.length)).toBe(index);
  };

  append(0, 200);
  column.mark();
  append(200, 70_000);
  expect(column.width).toBe(4);
  expect(rows()).toEqual(indexes(0, 70_000));
  column.rollback();
  expect(rows()).toEqual(indexes(0, 200));
  append(200, 300);
  expect(rows()).toEqual(indexes(0, 300));
  column.reset();
  append(0, 257);
  expect(column.width).toBe(2);
  expect(rows()).toEqual(indexes(0, 257));
});

function indexes(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, offset) => from + offset);
}

function ascii(text: string): ByteBuffer {
  const buffer = new ByteBuffer(text.length);
  buffer.ascii(text);
  return buffer;
}

function indexOf(dictionary: Dictionary, text: string): number {
  return dictionary.indexOf(ascii(text), 0, text.length);
}

/** What ClickHouse reads. */
function keysOf({ keys: { bytes, length } }: Dictionary): string[] {
  const texts: string[] = [];
  for (let at = 0; at < length;) {
    let size = bytes[at++];
    if (size >= 0x80) size = (size & 0x7f) | (bytes[at++] << 7);
    texts.push(bytes.toString('latin1', at, at + size));
    at += size;
  }
  return texts;
}
