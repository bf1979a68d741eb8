import { PassThrough } from 'node:stream';
import { setImmediate as nextTick } from 'node:timers/promises';
import { afterAll, expect, test, vi } from 'vitest';
import { readScheduler } from '../../src/http/read-scheduler.ts';

/** So much of a body has come that it takes turns with others. */
const bring = (body: PassThrough) => readScheduler.onChunk(body, 1_000_000, 10);

/** The clock of the scheduler: a busy machine does not make a tick longer. */
let nowMs = 0;
const clock = vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
afterAll(() => clock.mockRestore());

/** Longer than a tick may take. */
function work(): void {
  nowMs += 12;
}

test('long bodies take turns in the order in which they came, and those that come while others wait go behind them', async () => {
  const [first, second, third, late] = Array.from({ length: 4 }, () => new PassThrough());
  const paused = () => [first, second, third, late].map((body) => body.isPaused());

  bring(first);
  work();
  bring(second);
  bring(third);
  expect(paused()).toEqual([false, true, true, false]);

  await nextTick();
  bring(late);
  bring(second);
  expect(paused()).toEqual([false, false, true, true]);

  await nextTick();
  expect(paused()).toEqual([false, false, false, true]);
  await nextTick();
  expect(paused()).toEqual([false, false, false, false]);
});
