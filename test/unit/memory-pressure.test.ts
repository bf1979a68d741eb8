import { readFileSync } from 'node:fs';
import { expect, test, vi } from 'vitest';
import { MemoryBudget } from '../../src/batch/memory-budget.ts';
import { MemoryPressure, residentBytes } from '../../src/batch/memory-pressure.ts';

/* When the process nears its memory limit. What a load does to it in fact: test/e2e/memory.test.ts, `npm run memory:check`. */

const MB = 1024 ** 2;

test('from 60 % of the limit on, nothing is let in', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const process = { bytes: 0 };
  const budget = new MemoryBudget(100 * MB, new MemoryPressure(1000 * MB, () => process.bytes));
  for (const [bytes, isFull] of [[100 * MB, false], [599 * MB, false], [601 * MB, true], [590 * MB, false]] as const) {
    process.bytes = bytes;
    vi.advanceTimersByTime(5);
    expect(budget.isFull).toBe(isFull);
    expect(budget.reserve(1)).toBe(!isFull);
  }
  vi.useRealTimers();
});

test('work that is let in may bring it to 95 %', () => {
  const pressure = new MemoryPressure(1000 * MB, () => 600 * MB);
  expect(pressure.hasRoomFor(349 * MB)).toBe(true);
  expect(pressure.hasRoomFor(351 * MB)).toBe(false);
});

test('what can be made again is freed first, once a second at most', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const process = { bytes: 700 * MB };
  const pressure = new MemoryPressure(1000 * MB, () => process.bytes);
  const free = vi.fn(() => (process.bytes -= 150 * MB));
  pressure.onHigh(free);
  expect(pressure.isHigh).toBe(false);
  expect(free).toHaveBeenCalledTimes(1);

  process.bytes = 800 * MB;
  vi.advanceTimersByTime(500);
  expect(pressure.isHigh).toBe(true);
  expect(free).toHaveBeenCalledTimes(1);
  vi.advanceTimersByTime(1_000);
  expect(pressure.isHigh).toBe(true);
  expect(free).toHaveBeenCalledTimes(2);
  vi.useRealTimers();
});

test("the figure is the kernel's, without the pages of files", () => {
  const read = residentBytes();
  const kept = Buffer.alloc(64 * MB, 1);
  const [, kb] = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))!;
  const bytes = read();
  expect(Math.abs(bytes - Number(kb) * 1024)).toBeLessThan(8 * MB);
  expect(bytes).toBeGreaterThan(kept.length);
});
