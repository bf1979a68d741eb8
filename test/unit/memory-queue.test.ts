import { expect, test } from 'vitest';
import { MemoryBudget } from '../../src/queue/memory-budget.ts';
import { MemoryQueue } from '../../src/queue/memory-queue.ts';

test('a small block that waits keeps no more memory than the budget counts', () => {
  const queue = new MemoryQueue({
    budget: new MemoryBudget(1024 ** 2),
    ackTimeoutMs: undefined,
    storageRefusal: () => undefined,
    keepDeadLetter: async () => {},
  });
  const frame = Buffer.alloc(64 * 1024, 1).subarray(1_000, 2_000);
  void queue.push({ frame, rows: 7 });

  const [block] = queue.take(100, 1024 ** 2)?.blocks ?? [];
  expect(block?.frame).toEqual(frame);
  expect(block?.frame.buffer.byteLength).toBeLessThan(2 * frame.length);
});
