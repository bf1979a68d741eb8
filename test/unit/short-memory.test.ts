import { expect, test } from 'vitest';
import { giveBack, shortMemory } from '../../src/runtime/body-slab.ts';
import { Random } from '../support/generators/random.ts';

/** Memory that is full of one byte, as a body would fill it. */
function filled(length: number, value: number): Buffer {
  return shortMemory(length).fill(value);
}

function expectFullOf(memory: Buffer, value: number): void {
  expect(memory.every((byte) => byte === value)).toBe(true);
}

test('nobody is given what another still has, whoever gives back first and however much is asked for', () => {
  const random = new Random(1);
  const held: { memory: Buffer; value: number }[] = [];
  for (let step = 0; step < 5_000; step++) {
    if (held.length < 12 && random.chance(0.5)) {
      held.push({ memory: filled(random.between(1, random.chance(0.1) ? 300_000 : 10_000), step % 256), value: step % 256 });
    } else if (held.length > 0) {
      const [{ memory, value }] = held.splice(random.below(held.length), 1);
      expectFullOf(memory, value);
      giveBack([memory]);
    }
  }
  for (const { memory, value } of held) expectFullOf(memory, value);
  giveBack(held.map(({ memory }) => memory));
});

test('memory that is given back is used again: a thousand requests, one after the other, take no new one', () => {
  const places = new Set<ArrayBufferLike>();
  for (let request = 0; request < 1_000; request++) {
    const bodies = [shortMemory(60_000), shortMemory(500)];
    for (const { buffer } of bodies) places.add(buffer);
    giveBack(bodies);
  }
  expect(places.size).toBe(1);
});

test('a list is emptied, so that nothing in it is given back twice', () => {
  const memories = [shortMemory(100)];
  const other = filled(100, 1);
  giveBack(memories);
  giveBack(memories);
  expect(memories).toEqual([]);
  const next = filled(100, 2);
  expectFullOf(other, 1);
  giveBack([other, next]);
});

test('memory beyond what is kept for all is freed as soon as it is given back', () => {
  const taken = Array.from({ length: 10 }, (_, index) => filled(60_000, index));
  for (const [index, memory] of taken.entries()) expectFullOf(memory, index);
  giveBack([...taken]);
  expect(taken.at(-1)).toHaveLength(0);
  const [again, first] = [shortMemory(60_000), taken[0]];
  expect(again.buffer).toBe(first.buffer);
  giveBack([again]);
});
