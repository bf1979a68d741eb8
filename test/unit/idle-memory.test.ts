import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { IdleMemory } from '../../src/queue/idle-memory.ts';
import { trimMalloc } from '../../src/runtime/malloc.ts';
import { collectGarbage } from '../../src/runtime/v8-memory.ts';

/* When an idle thread releases memory. What it releases: test/e2e/hostile.test.ts. */

vi.mock(import('../../src/runtime/malloc.ts'), () => ({ trimMalloc: vi.fn() }));
vi.mock(import('../../src/runtime/v8-memory.ts'), async (actual) => ({ ...(await actual()), collectGarbage: vi.fn() }));

const MB = 1024 ** 2;
const thread = { bytes: 0, utilization: 0 };
let memory: IdleMemory;

/** Half a second passes `times` times. @returns the collections meanwhile */
function pass(times: number): number {
  vi.mocked(collectGarbage).mockClear();
  for (let count = 0; count < times; count++) {
    vi.advanceTimersByTime(500);
    memory.check();
  }
  return vi.mocked(collectGarbage).mock.calls.length;
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  vi.mocked(trimMalloc).mockClear();
  vi.mocked(collectGarbage).mockReset();
  Object.assign(thread, { bytes: 100 * MB, utilization: 0 });
  memory = new IdleMemory(
    () => thread.bytes,
    () => thread.utilization,
  );
});
afterEach(() => {
  vi.useRealTimers();
});

test('after two idle seconds, memory that the process took meanwhile is collected, and malloc trimmed now and half a second later', () => {
  thread.bytes = 400 * MB;
  thread.utilization = 0.5;
  expect(pass(100)).toBe(0);
  thread.utilization = 0.09;
  vi.mocked(collectGarbage).mockImplementation(() => (thread.bytes = 120 * MB));
  expect([pass(3), pass(1)]).toEqual([0, 1]);
  expect(trimMalloc).toHaveBeenCalledTimes(1);
  expect(pass(1_000)).toBe(0);
  expect(trimMalloc).toHaveBeenCalledTimes(2);
});

test('a thread that is busy now and then is not idle', () => {
  thread.bytes = 400 * MB;
  for (let count = 0; count < 20; count++) {
    thread.utilization = 0.11;
    expect(pass(1)).toBe(0);
    thread.utilization = 0;
    expect(pass(3)).toBe(0);
  }
});

test('less than 64 MB is not worth a collection', () => {
  thread.bytes = 163 * MB;
  expect(pass(100)).toBe(0);
  thread.bytes = 164 * MB;
  expect(pass(1)).toBe(1);
});

test('there are 30 s between two collections, and what one could not free starts no other', () => {
  thread.bytes = 400 * MB;
  expect(pass(100)).toBe(1);
  expect(pass(1_000)).toBe(0);
  thread.bytes = 470 * MB;
  expect(pass(1)).toBe(1);
  thread.bytes = 540 * MB;
  expect([pass(59), pass(1)]).toEqual([0, 1]);
});

test('growth counts from the lowest that the process took since the last collection', () => {
  thread.bytes = 400 * MB;
  expect(pass(10)).toBe(1);
  thread.bytes = 200 * MB;
  expect(pass(1_000)).toBe(0);
  thread.bytes = 264 * MB;
  expect(pass(1)).toBe(1);
});
