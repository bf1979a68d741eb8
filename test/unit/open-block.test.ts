import { setImmediate as nextTick } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { OpenBlock } from '../../src/blocks/open-block.ts';
import { Body } from '../../src/bodies/request-body.ts';
import type { Reservation } from '../../src/bodies/reservation.ts';
import { BlockEncoder } from '../../src/transcode/block-encoder.ts';
import { incompressible } from '../support/generators/incompressible.ts';

const INTERVAL_MS = 80;

/** What a request reserves is another's business. */
const memory = { releaseBody() {}, moveToBlock() {}, releaseBlock() {} } as unknown as Reservation;

/** A block that notes which are sealed, by their rows, and when that began. */
function startBlock() {
  const sealed: { rows: number; atMs: number }[] = [];
  const encoder = new BlockEncoder('hive');
  vi.spyOn(encoder, 'seal').mockImplementation(() => {
    sealed.push({ rows: encoder.rows, atMs: performance.now() });
    return BlockEncoder.prototype.seal.call(encoder);
  });
  const block = new OpenBlock(encoder, INTERVAL_MS, async () => {});
  const add = (bodyBytes: number) => block.add(new Body([request(bodyBytes)], bodyBytes, memory), 'json', 'target');
  return { sealed, block, add };
}

/** One span, in so many bytes. */
function request(bytes: number): Buffer {
  const id = '0123456789abcdef';
  const span = { traceId: id + id, spanId: id, name: 'x', startTimeUnixNano: '1', endTimeUnixNano: '2' };
  return Buffer.from(JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] }).padEnd(bytes));
}

test('after a pause a block is sealed as soon as others that came just then are in it', async () => {
  const { sealed, add } = startBlock();
  add(1_000);
  add(1_000);
  expect(sealed).toEqual([]);
  await nextTick();
  expect(sealed).toMatchObject([{ rows: 2 }]);
});

test('the next is sealed an interval later, or two while it is short', async () => {
  const [long, short] = [startBlock(), startBlock()];
  for (const { add } of [long, short]) add(1_000);
  await nextTick();
  for (const { add } of [long, short]) add(1_000);
  long.add(65_000);
  await expect.poll(() => short.sealed.length === 2).toBe(true);
  expect(long.sealed).toMatchObject([{ rows: 1 }, { rows: 2 }]);
  expect(short.sealed).toMatchObject([{ rows: 1 }, { rows: 1 }]);
  expect(long.sealed[1].atMs - long.sealed[0].atMs).toBeGreaterThan(INTERVAL_MS - 2);
  expect(short.sealed[1].atMs - short.sealed[0].atMs).toBeGreaterThan(2 * INTERVAL_MS - 2);
  expect(long.sealed[1].atMs).toBeLessThan(short.sealed[1].atMs);
});

test('bodies that are deferred make a block longer as soon as they come', async () => {
  const [long, short] = [startBlock(), startBlock()];
  for (const { add } of [long, short]) add(1_000);
  await nextTick();
  for (const { block, add } of [long, short]) block.defer(1_000, () => void add(1_000));
  for (let count = 0; count < 69; count++) long.block.defer(1_000, () => void long.add(1_000));
  await expect.poll(() => short.sealed.length === 2).toBe(true);
  expect(long.sealed[1]).toMatchObject({ rows: 70 });
  expect(long.sealed[1].atMs).toBeLessThan(short.sealed[1].atMs);
});

test('a block that is sealed before its time leaves nothing behind that would seal the next', async () => {
  const { sealed, block, add } = startBlock();
  add(1_000);
  block.seal();
  add(1_000);
  await nextTick();
  expect(sealed).toHaveLength(1);
  await expect.poll(() => sealed.length === 2).toBe(true);
  expect(sealed[1].atMs - sealed[0].atMs).toBeGreaterThan(2 * INTERVAL_MS - 2);
});

test('the queue has the block before the memory of its bodies is given back', () => {
  const steps: string[] = [];
  const reservation = { moveToBlock: (bytes: number) => steps.push(`moved to ${bytes} bytes`) } as unknown as Reservation;
  const block = new OpenBlock(new BlockEncoder('hive'), INTERVAL_MS, ({ frame }) => {
    steps.push(`pushed ${frame.length} bytes`);
    // A queue may do so at once: the frame is its own now.
    structuredClone(frame.buffer, { transfer: [frame.buffer as ArrayBuffer] });
    return new Promise(() => {});
  });
  // So large that its frame has memory of its own.
  const body = incompressible(64);
  block.add(new Body([body], body.length, reservation), 'protobuf', 'target');
  block.seal();
  const [, bytes] = /^pushed (\d{2,}) bytes$/.exec(steps[0])!;
  expect(steps).toEqual([`pushed ${bytes} bytes`, `moved to ${bytes} bytes`]);
});
