import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { MemoryBudget } from '../../src/queue/memory-budget.ts';
import { MemoryPressure, residentBytes } from '../../src/queue/memory-pressure.ts';
import { trimMalloc } from '../../src/runtime/malloc.ts';
import { processMemoryMb } from '../support/servers/process-memory.ts';

/* When the process nears its memory limit. What a load does to it in fact: test/e2e/memory.test.ts, `npm run memory:check`. */

vi.mock(import('../../src/runtime/malloc.ts'), async (actual) => ({ trimMalloc: vi.fn((await actual()).trimMalloc) }));

const MB = 1024 ** 2;

/** A process whose memory a test sets. The clock moves as the test says. */
function simulated(limitBytes = 1000 * MB) {
  const process = { bytes: 0 };
  const pressure = new MemoryPressure(limitBytes, () => process.bytes);
  const free = vi.fn();
  pressure.onHigh(free);
  return {
    pressure,
    budget: new MemoryBudget(500 * MB, pressure),
    /** Called once for each collection. */
    free,
    /** Sets what the process takes, and has it read again. */
    takes: (bytes: number, afterMs = 5) => {
      process.bytes = bytes;
      vi.advanceTimersByTime(afterMs);
    },
    process,
  };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout'] });
});
afterEach(() => {
  vi.useRealTimers();
});

test('up to 60 % of the limit, the budget alone decides', () => {
  const { budget, takes } = simulated();
  takes(599 * MB);
  expect(budget.shortage(499 * MB)).toBeUndefined();
  budget.add(500 * MB);
  expect(budget.exceeded()).toBeUndefined();
  budget.add(1);
  expect(budget.exceeded()).toBe('memory');
});

test('above 60 %, requests are let in if ten times what all hold, and 32 MB, fit below 80 %', () => {
  const { budget, takes } = simulated();
  takes(668 * MB);
  expect(budget.shortage(10 * MB)).toBeUndefined();
  expect(budget.shortage(11 * MB)).toBe('process_memory');
  budget.add(11 * MB);
  expect(budget.exceeded()).toBe('process_memory');
  budget.release(1 * MB);
  expect(budget.exceeded()).toBeUndefined();
  takes(669 * MB);
  expect(budget.shortage()).toBe('process_memory');
  takes(600 * MB);
  expect(budget.shortage()).toBeUndefined();
});

test('what worker threads may take is not let in a second time', () => {
  const { budget, pressure, takes } = simulated();
  takes(668 * MB);
  pressure.promisedBytes = 50 * MB;
  expect(budget.shortage(5 * MB)).toBeUndefined();
  expect(budget.shortage(6 * MB)).toBe('process_memory');
});

test.each([96, 128, 256, 512, 2048])(
  'small requests go on where the process stays above the mark for good, with a limit of %i MB',
  (limitMb) => {
    const { budget, takes } = simulated(limitMb * MB);
    for (let second = 0; second < 60; second++) {
      takes(0.68 * limitMb * MB, 1_000);
      expect(budget.shortage(100_000)).toBeUndefined();
      budget.add(100_000);
      expect(budget.exceeded()).toBeUndefined();
      budget.release(100_000);
    }
  },
);

test('nothing is let in where 32 MB do not fit below 80 %, however little', () => {
  const { budget, takes } = simulated();
  takes(769 * MB);
  expect(budget.shortage()).toBe('process_memory');
  budget.add(1);
  expect(budget.exceeded()).toBe('process_memory');
});

test('work that is let in may bring it to 95 %', () => {
  const { pressure, takes } = simulated();
  takes(600 * MB);
  expect(pressure.hasRoomFor(349 * MB)).toBe(true);
  expect(pressure.hasRoomFor(351 * MB)).toBe(false);
});

test('what can be made again is freed before a request is refused, once a second at most', () => {
  const { budget, free, process, takes } = simulated();
  free.mockImplementation(() => (process.bytes -= 250 * MB));
  takes(800 * MB);
  expect(budget.shortage()).toBeUndefined();
  expect(free).toHaveBeenCalledTimes(1);

  takes(900 * MB, 500);
  expect(budget.shortage()).toBe('process_memory');
  expect(free).toHaveBeenCalledTimes(1);
  takes(900 * MB, 500);
  expect(budget.shortage()).toBeUndefined();
  expect(free).toHaveBeenCalledTimes(2);
});

test('collections in vain come ever less often: every 8 s, or 2 s where requests are refused', () => {
  const { budget, free, takes } = simulated();
  const collections = (seconds: number, bytes = 700 * MB) => {
    free.mockClear();
    for (let ms = 0; ms < seconds * 1_000; ms += 100) {
      takes(bytes, 100);
      budget.shortage();
    }
    return free.mock.calls.length;
  };
  expect(collections(60)).toBeLessThan(10);
  const inTwoMinutes = collections(120);
  expect(inTwoMinutes).toBeLessThanOrEqual(16);
  expect(inTwoMinutes).toBeGreaterThanOrEqual(14);
  collections(60, 830 * MB);
  const whileRefusing = collections(120, 830 * MB);
  expect(whileRefusing).toBeLessThanOrEqual(61);
  expect(whileRefusing).toBeGreaterThanOrEqual(57);
});

test('a collection comes at once when there may be something to collect: the process has grown, or what it held is gone', () => {
  const { budget, free, takes } = simulated();
  const inVain = () => {
    for (let second = 0; second < 60; second++) {
      takes(700 * MB, 1_000);
      budget.shortage();
    }
    free.mockClear();
  };
  inVain();
  takes(710 * MB, 1_000);
  budget.shortage();
  expect(free).toHaveBeenCalledTimes(0);
  takes(770 * MB, 1_000);
  budget.shortage();
  expect(free).toHaveBeenCalledTimes(1);

  budget.add(4 * MB);
  inVain();
  budget.release(4 * MB);
  takes(700 * MB, 1_000);
  budget.shortage();
  expect(free).toHaveBeenCalledTimes(1);
});

test.each([50, 300, 580])('memory that grows by 4 MB in each millisecond, from %i MB, is noticed when it passes the mark', (beforeMb) => {
  const { budget, free, process } = simulated();
  free.mockImplementation(() => (process.bytes = beforeMb * MB));
  process.bytes = beforeMb * MB;
  budget.shortage();
  let most = 0;
  while (free.mock.calls.length === 0) {
    process.bytes += 4 * MB;
    most = Math.max(most, process.bytes);
    vi.advanceTimersByTime(1);
    budget.shortage();
  }
  expect(most).toBeLessThan(625 * MB);
});

test('the kernel is asked every 100 ms far below the mark, and every 5 ms near it', () => {
  const read = vi.fn<() => number>();
  const pressure = new MemoryPressure(10_000 * MB, read);
  for (const [bytes, reads] of [
    [100 * MB, 10],
    [5_990 * MB, 200],
  ]) {
    read.mockReturnValue(bytes);
    vi.advanceTimersByTime(200);
    pressure.admits(0);
    read.mockClear();
    for (let ms = 0; ms < 1_000; ms++) {
      vi.advanceTimersByTime(1);
      pressure.admits(0);
    }
    expect(read).toHaveBeenCalledTimes(reads);
  }
});

test('memory that connections take is collected, too, which ask nobody', () => {
  const { free, pressure, takes } = simulated();
  takes(590 * MB, 500);
  pressure.watch();
  expect(free).toHaveBeenCalledTimes(0);
  takes(650 * MB, 500);
  pressure.watch();
  expect(free).toHaveBeenCalledTimes(1);
});

test('malloc is trimmed with a collection, and once more when V8 has freed what it found', () => {
  const { budget, pressure, takes } = simulated();
  vi.mocked(trimMalloc).mockClear();
  takes(650 * MB);
  budget.shortage();
  expect(trimMalloc).toHaveBeenCalledTimes(1);
  for (let turn = 0; turn < 3; turn++) {
    takes(500 * MB, 500);
    pressure.watch();
  }
  expect(trimMalloc).toHaveBeenCalledTimes(2);
});

test('the log says once a minute that the process is what refuses requests, and with which figures', () => {
  const warn = vi.spyOn(Logger.prototype, 'warn').mockReturnValue();
  const { budget, takes } = simulated();
  budget.add(20 * MB);
  takes(800 * MB);
  const refuse = () => budget.refused(budget.shortage()!);
  refuse();
  expect(warn.mock.calls).toEqual([
    [{ residentMb: 800, limitMb: 1000, heldMb: 20, msg: 'Requests are refused: the process is near its memory limit' }],
  ]);
  for (let request = 0; request < 100; request++) refuse();
  budget.refused('memory');
  expect(warn).toHaveBeenCalledTimes(1);
  vi.advanceTimersByTime(60_000);
  expect(warn).toHaveBeenCalledTimes(2);
  expect(warn.mock.lastCall).toMatchObject([{ times: 100 }]);
  warn.mockRestore();
});

test("the figure is the kernel's, without the pages of files", () => {
  const read = residentBytes();
  const kept = Buffer.alloc(64 * MB, 1);
  const anonymousMb = processMemoryMb(process.pid, 'RssAnon');
  const bytes = read();
  expect(Math.abs(bytes - anonymousMb * MB)).toBeLessThan(8 * MB);
  expect(bytes).toBeGreaterThan(kept.length);
});
