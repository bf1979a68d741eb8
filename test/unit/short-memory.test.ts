import { expect, test } from 'vitest';
import { giveBack, shortMemory } from '../../src/runtime/body-slab.ts';

test('memory that is given back is used again, and never by two at once', () => {
  const first = shortMemory(100);
  const second = shortMemory(200);
  expect(second.buffer).toBe(first.buffer);
  expect(second.byteOffset).toBeGreaterThanOrEqual(first.byteOffset + 100);
  giveBack([first]);
  // What is behind it is still in use.
  const third = shortMemory(50);
  expect(third.byteOffset).toBeGreaterThanOrEqual(second.byteOffset + 200);
  giveBack([second, third]);
  const fourth = shortMemory(100);
  expect(fourth.byteOffset).toBe(first.byteOffset);
  giveBack([fourth]);
});

test('a list is emptied, so that nothing in it is given back twice', () => {
  const memories = [shortMemory(100)];
  const other = shortMemory(100);
  giveBack(memories);
  giveBack(memories);
  expect(memories).toEqual([]);
  const next = shortMemory(100);
  expect(next.byteOffset).toBeGreaterThanOrEqual(other.byteOffset + 100);
  giveBack([other, next]);
});

test('whoever finds no room gets memory of his own, which is freed when it is given back', () => {
  const taken = Array.from({ length: 10 }, () => shortMemory(60_000));
  const [first, last] = [taken[0], taken.at(-1)!];
  expect(last.length).toBe(60_000);
  expect(last.buffer).not.toBe(first.buffer);
  giveBack(taken);
  expect(last.length).toBe(0);
  const again = shortMemory(60_000);
  expect(again.buffer).toBe(first.buffer);
  expect(again.byteOffset).toBe(first.byteOffset);
  giveBack([again]);
});
