import { PassThrough } from 'node:stream';
import { setImmediate as nextTick } from 'node:timers/promises';
import { afterAll, expect, test, vi } from 'vitest';
import { readScheduler } from '../../src/http/read-scheduler.ts';

/** A chunk of a body that is long enough to be scheduled. */
const read = (body: PassThrough) => readScheduler.onChunk(body, 1_000_000, 10);

/** The clock of the scheduler: a busy machine does not make a tick longer. */
let nowMs = 0;
const clock = vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
afterAll(() => clock.mockRestore());

/** Longer than a tick may take. */
function work(): void {
  nowMs += 12;
}

test('long bodies are read one per tick, in the order in which they arrive, also if one arrives while others wait', async () => {
  const [first, second, third, late] = Array.from({ length: 4 }, () => new PassThrough());
  const paused = () => [first, second, third, late].map((body) => body.isPaused());

  read(first);
  work();
  read(second);
  read(third);
  expect(paused()).toEqual([false, true, true, false]);

  await nextTick();
  read(late);
  read(second);
  expect(paused()).toEqual([false, false, true, true]);

  await nextTick();
  expect(paused()).toEqual([false, false, false, true]);
  await nextTick();
  expect(paused()).toEqual([false, false, false, false]);
});
