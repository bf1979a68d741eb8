import { expect, test } from 'vitest';
import { PlainRequest } from '../../src/http/plain-request.ts';
import { bodySlab } from '../../src/runtime/body-slab.ts';
import { Random } from '../support/generators/random.ts';

/** Memory that is full of one byte, as a body would fill it. */
function filled(length: number, value: number): Buffer {
  return bodySlab.alloc(length).fill(value);
}

function expectFullOf(memory: Buffer, value: number): void {
  expect(memory.every((byte) => byte === value)).toBe(true);
}

test('memory that is in use is not given away again, in whatever order it is released and however much is asked for', () => {
  const random = new Random(1);
  const held: { memory: Buffer; value: number }[] = [];
  for (let step = 0; step < 5_000; step++) {
    if (held.length < 12 && random.chance(0.5)) {
      held.push({ memory: filled(random.between(1, random.chance(0.1) ? 300_000 : 10_000), step % 256), value: step % 256 });
    } else if (held.length > 0) {
      const [{ memory, value }] = held.splice(random.below(held.length), 1);
      expectFullOf(memory, value);
      bodySlab.release(memory);
    }
  }
  for (const { memory, value } of held) {
    expectFullOf(memory, value);
    bodySlab.release(memory);
  }
});

test('memory that is released is used again: a thousand requests, one after the other, take no new one', () => {
  const buffers = new Set<ArrayBufferLike>();
  for (let request = 0; request < 1_000; request++) {
    const bodies = [bodySlab.alloc(60_000), bodySlab.alloc(500)];
    for (const body of bodies) {
      buffers.add(body.buffer);
      bodySlab.release(body);
    }
  }
  expect(buffers.size).toBe(1);
});

test('memory beyond what is kept for all is freed as soon as it is released', () => {
  const taken = Array.from({ length: 10 }, (_, index) => filled(60_000, index));
  for (const [index, memory] of taken.entries()) expectFullOf(memory, index);
  for (const memory of taken) bodySlab.release(memory);
  expect(taken.at(-1)).toHaveLength(0);
  const [again, first] = [bodySlab.alloc(60_000), taken[0]];
  expect(again.buffer).toBe(first.buffer);
  bodySlab.release(again);
});

test('a request frees its memory once, however often it is told to', () => {
  const body = filled(100, 1);
  const other = filled(100, 2);
  const request = new PlainRequest({}, [body], body.length, [body]);
  request.free();
  request.free();
  const next = filled(100, 3);
  expectFullOf(other, 2);
  for (const memory of [other, next]) bodySlab.release(memory);
});

test('a request that abandons its memory does not free it', () => {
  const body = Buffer.allocUnsafeSlow(2_000).fill(1);
  const request = new PlainRequest({}, [body], body.length, [body]);
  request.abandon();
  request.free();
  expect(body).toHaveLength(2_000);
});
