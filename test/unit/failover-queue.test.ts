import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { FailoverQueue } from '../../src/disk-buffer/failover-queue.ts';
import { RingQueue } from '../../src/disk-buffer/ring-queue.ts';
import { Ring } from '../../src/disk-buffer/ring.ts';
import { ServerNames } from '../../src/disk-buffer/server-names.ts';
import { MemoryBudget } from '../../src/queue/memory-budget.ts';
import { MemoryQueue } from '../../src/queue/memory-queue.ts';

const dir = mkdtempSync(join(tmpdir(), 'failover-'));
afterAll(() => rmSync(dir, { recursive: true }));

const block = (text: string) => ({ frame: Buffer.from(text), rows: 1 });

test('acknowledges from memory while the disk fails, keeps what is in the ring, and returns to it', async () => {
  const ring = Ring.open(join(dir, 'ring'), 131_072);
  const ringQueue = new RingQueue(ring, new ServerNames(join(dir, 'servers')), 'always', async () => {});
  const memory = new MemoryQueue({
    budget: new MemoryBudget(1e6),
    ackTimeoutMs: 60_000,
    storageRefusal: () => undefined,
    keepDeadLetter: async () => {},
  });
  const queue = new FailoverQueue(ringQueue, memory);
  await queue.push(block('in the ring'));

  // A disk can't be made to fail here: the call that would say so is replaced.
  const failing = vi.spyOn(ring, 'sync').mockRejectedValue(new Error('EIO'));
  await expect(queue.push(block('refused'))).rejects.toMatchObject({ status: 503 });
  expect(ringQueue.diskFailure?.message).toBe('EIO');
  expect(ringQueue.refusal()).toMatchObject({ status: 503 });
  expect(queue.refusal()).toBeUndefined();

  let acknowledged = false;
  const inMemory = queue.push(block('in memory')).then(() => (acknowledged = true));
  const fromRing = queue.take(1, 1e6)!;
  expect(fromRing.blocks[0].frame.toString()).toBe('in the ring');
  queue.confirm(fromRing);
  queue.confirm(queue.take(1, 1e6)!);
  expect(acknowledged).toBe(false);
  const fromMemory = queue.take(1, 1e6)!;
  expect(fromMemory.blocks[0].frame.toString()).toBe('in memory');
  queue.confirm(fromMemory);
  await inMemory;
  expect(queue.waiting.blocks).toBe(0);

  failing.mockRestore();
  await expect.poll(() => ringQueue.diskFailure, { timeout: 5_000 }).toBeUndefined();
  await queue.push(block('in the ring again'));
  expect(ring.waiting.blocks).toBe(1);
  await ringQueue.close();
});
