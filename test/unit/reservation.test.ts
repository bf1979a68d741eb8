import { expect, test, vi } from 'vitest';
import { Reservation } from '../../src/bodies/reservation.ts';
import { loadConfig } from '../../src/config/load-config.ts';
import type { BlockSink } from '../../src/queue/block-queue.ts';
import { MemoryBudget } from '../../src/queue/memory-budget.ts';
import { RequestCounts } from '../../src/telemetry/request-counts.ts';
import { heldBytes } from '../../src/threads/memory.module.ts';
import { SharedMemory } from '../../src/threads/shared-memory.ts';
import { SharedTargets } from '../../src/threads/shared-targets.ts';

/** With these, one target may hold 720 bytes: 80 % of the high mark, 900. The request that brings it there may be larger. */
const LIMIT_BYTES = 1_000;
const config = loadConfig({
  CLICKHOUSE_URL: 'http://127.0.0.1:1',
  DISABLE_AUTH: 'true',
  ACK_MODE: 'received',
  TARGET_MAX_MEMORY_PERCENT: '80',
});

/** Two ingest threads of a process. */
function twoThreads() {
  const { buffers } = SharedMemory.for(2);
  return [1, 2].map((slot) => {
    const memory = new SharedMemory(buffers, slot);
    const held = heldBytes(memory);
    const budget = new MemoryBudget(LIMIT_BYTES, undefined, held);
    const targets = new SharedTargets(config, budget, {} as BlockSink, memory);
    const { backpressure: refused } = new RequestCounts();
    return {
      budget,
      refused,
      held: () => [budget.usedBytes, targets.of('target').bytes],
      request: (target = 'target') => new Reservation({ budget, targets, refused }, targets.of(target)),
      /** Calls `run` when this thread has next read how much is held: the kernel may stop a thread there, and run another. */
      stopAfterReading(run: () => void) {
        vi.spyOn(held, 'total', 'get').mockImplementationOnce(() => {
          const total = memory.heldBytes;
          run();
          return total;
        });
      },
    };
  });
}

test('of a request that is refused nothing is held', () => {
  const [one, other] = twoThreads();
  expect(one.request().reserve(600)).toBeUndefined();
  const refused = other.request();
  expect(refused.reserve(100)).toBeUndefined();
  expect(refused.reserve(110)).toMatchObject({ status: 429 });
  expect(other.request('another').reserve(301)).toMatchObject({ status: 503 });
  expect(other.refused).toMatchObject({ target_memory: 1, memory: 1 });
  expect(one.held()).toEqual([700, 700]);

  refused.releaseBody();
  expect(one.held()).toEqual([600, 600]);
});

test('requests of one target that two threads read at the same time do not both get the last of its share', () => {
  const [one, other] = twoThreads();
  expect(one.request().reserve(600)).toBeUndefined();
  const refusals: unknown[] = [];
  one.stopAfterReading(() => refusals.push(other.request().reserve(150)));
  refusals.push(one.request().reserve(150));

  expect(refusals).toHaveLength(2);
  expect(refusals).toContain(undefined);
  expect(refusals).toContainEqual(expect.objectContaining({ status: 429 }));
  expect(one.held()).toEqual([750, 750]);
});

test('requests of two targets that two threads read at the same time do not both get the last of the memory', () => {
  const [one, other] = twoThreads();
  for (const target of ['a', 'b']) expect(one.request(target).reserve(300)).toBeUndefined();
  const refusals: unknown[] = [];
  one.stopAfterReading(() => refusals.push(other.request('c').reserve(250)));
  refusals.push(one.request('d').reserve(250));

  expect(refusals).toContain(undefined);
  expect(refusals).toContainEqual(expect.objectContaining({ status: 503 }));
  expect(one.budget.usedBytes).toBe(850);
});
