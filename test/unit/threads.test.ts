import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { Refusal, storageUnavailable } from '../../src/otlp/refusal.ts';
import { HeldBytes, MemoryBudget } from '../../src/queue/memory-budget.ts';
import { RowsRefused } from '../../src/queue/rows-refused.ts';
import { RequestCounts, resetOpen, SumsOfThreads } from '../../src/telemetry/request-counts.ts';
import { Channel } from '../../src/threads/channel.ts';
import { heldBytes } from '../../src/threads/memory.module.ts';
import { numberOf, refusalOf } from '../../src/threads/queue-refusals.ts';
import { MAX_TARGETS, SharedMemory } from '../../src/threads/shared-memory.ts';
import { SpanBalance } from '../../src/threads/span-balance.ts';
import { TargetTable } from '../../src/threads/target-table.ts';
import { ThreadCount } from '../../src/threads/thread-count.ts';
import { BlockTrace } from '../../src/tracing/block-trace.ts';
import type { SpanStarter } from '../../src/tracing/span-starter.ts';
import { MalformedRequest } from '../../src/transcode/bytes/malformed-request.ts';

/** The memory of the main thread and of two ingest threads. */
function threeThreads(): readonly SharedMemory[] {
  const main = SharedMemory.for(2);
  return [main, new SharedMemory(main.buffers, 1), new SharedMemory(main.buffers, 2)];
}

test('the budget is that of all threads, with blocks on their way, and what a thread held is given back when it ends', () => {
  const memories = threeThreads();
  const [main, one, other] = memories.map((memory) => new MemoryBudget(1_000, undefined, heldBytes(memory)));
  one.add(400);
  other.add(500);
  expect(main.usedBytes).toBe(900);
  // The high mark: 90 %. It is one for all, until the use is below 70 %.
  expect(one.shortage()).toBe('memory');
  other.release(150);
  expect([main, one, other].map((budget) => budget.shortage())).toEqual(['memory', 'memory', 'memory']);
  other.add(300);
  expect([main, one, other].map((budget) => budget.exceeded())).toEqual(['memory', 'memory', 'memory']);
  other.release(300);
  expect([main, one, other].map((budget) => budget.exceeded())).toEqual([undefined, undefined, undefined]);

  one.release(400);
  memories[1].pushed(50);
  expect(main.usedBytes).toBe(400);
  memories[0].received(50, 1);
  main.add(50);
  expect(main.usedBytes).toBe(400);
  memories[0].clear(2);
  expect([main, one].map((budget) => budget.usedBytes)).toEqual([50, 50]);
  expect(one.shortage()).toBeUndefined();
  expect(heldBytes(memories[0])).toMatchObject({ total: 50, isFull: false } satisfies Partial<HeldBytes>);
});

test('a block that moves on while a thread adds up what is held is counted, wherever the thread is just then', () => {
  for (let read = 0; read < 9; read++) {
    const [main, one] = threeThreads();
    one.hold(100);
    /** The block leaves the thread's memory for the main thread's, as in OpenBlock, RemoteQueue and ThreadAnswers. */
    const moveOn = () => {
      one.pushed(100);
      one.hold(-100);
      main.hold(100);
      main.received(100, 1);
    };
    let left = read;
    const bytes = Reflect.get(main, 'bytes') as Float64Array;
    const interrupted = new Proxy(bytes, {
      get: (target, key) => {
        if (key !== 'length' && left-- === 0) moveOn();
        return Reflect.get(target, key);
      },
    });
    expect(Reflect.set(main, 'bytes', interrupted)).toBe(true);
    const { heldBytes: sum } = main;
    expect(left, 'it was interrupted').toBeLessThan(0);
    expect(sum, `before read ${read}`).toBeGreaterThanOrEqual(100);
    Reflect.set(main, 'bytes', bytes);
    expect(main.heldBytes).toBe(100);
  }
});

test('counts are sums over threads; those of a thread that ends are kept, and what it has open is not', () => {
  const memory = SharedMemory.for(2);
  const cells = [0, 1, 2].map((slot) => memory.countsOf(slot));
  const [, one, other] = cells.map((own) => new RequestCounts(own));
  const totals = new SumsOfThreads({ own: cells[0], all: cells });
  one.spans.http.accepted += 7;
  other.spans.http.accepted += 5;
  other.open.requests++;
  other.acknowledgeSeconds.observe(0.3);
  other.refusedByStatus[503]++;
  resetOpen(cells[2]);
  const { spans, open, acknowledgeSeconds, refusedByStatus } = totals.now;
  expect([spans.http.accepted, open.requests, acknowledgeSeconds.sum, refusedByStatus[503]]).toEqual([12, 0, 0.3, 1]);
});

test('a target has the same entry in all threads, and loses it when none uses it and many entries are taken', () => {
  const [main, one, other] = threeThreads().map((memory) => new TargetTable(memory));
  const entry = one.take('target')!;
  expect(other.take('target')).toBe(entry);
  expect(other.take('another')).not.toBe(entry);
  expect(main.size).toBe(2);
  one.release(entry);
  expect(main.size).toBe(2);
  main.clear(2);
  expect(main.size).toBe(0);

  const taken = Array.from({ length: MAX_TARGETS / 2 }, (_, index) => one.take(`target ${index}`));
  expect(new Set(taken).size).toBe(taken.length);
  for (const each of taken.slice(1)) one.release(each!);
  main.sweep();
  expect(main.size).toBe(1);
  expect(one.take('target 0')).toBe(taken[0]);
  expect(one.take('yet another')).toBeDefined();
});

test('spans that a thread could not acknowledge are stored unanswered; those that it acknowledged too early are lost', async () => {
  const balance = new SpanBalance();
  let isGone = false;
  await balance.count(Promise.resolve(), 0, 10, 1, () => isGone);
  await balance.count(Promise.reject(new RowsRefused([[0, 3]])), 0, 10, 1, () => isGone);
  await balance.count(Promise.reject(storageUnavailable()), 0, 10, 1, () => isGone);
  balance.settle(1, 15);
  isGone = true;
  await balance.count(Promise.resolve(), 0, 4, 1, () => isGone);
  expect(balance).toMatchObject({ stored: 2 + 4, lost: 0 });
  balance.settle(1, 18);
  expect(balance).toMatchObject({ stored: 2 + 4, lost: 3 });
});

/** The numbers of threads that serve after each of these seconds: the load of the main thread, and those of the others. */
function servingAfter(count: ThreadCount, ...loadsBySecond: readonly number[][]): readonly number[] {
  return loadsBySecond.map(([main, ...loads]) => {
    count.adapt(main, loads);
    return count.serving;
  });
}

function seconds(times: number, ...loads: number[]): readonly number[][] {
  return Array.from({ length: times }, () => loads);
}

test('one more thread serves when all that serve were busy for three seconds in a row, up to the most', () => {
  const count = new ThreadCount(1, 3);
  expect(servingAfter(count, [0.1], [0.74], [0.74], [0.74])).toEqual([1, 1, 1, 1]);
  // Two ingest threads take the place of the main thread.
  expect(servingAfter(count, [1], [1], [0.5], [0.75], [0.75], [0.75])).toEqual([1, 1, 1, 1, 1, 2]);
  // The second starts, or is started again; then only the main thread is busy.
  expect(servingAfter(count, [0, 1, 0], [0, 1, 0], [0, 1, 0], ...seconds(4, 1, 1, 0.3))).toEqual(Array(7).fill(2));
  expect(servingAfter(count, [0, 1, 1], [0, 1, 1], [0, 1, 1], [0, 1, 1, 0])).toEqual([2, 2, 3, 3]);
  expect(servingAfter(count, ...seconds(8, 0, 1, 1, 1))).toEqual(Array(8).fill(3));
});

test('threads go on standby when fewer would have been at most half busy for ten seconds, down to the least, and serve again', () => {
  const count = new ThreadCount(1, 4);
  servingAfter(count, ...seconds(12, 1, 1, 1, 1, 1));
  expect(count.serving).toBe(4);
  // Two would be 0.5 busy. In one second it was more.
  const quarters = [0.1, 0.25, 0.25, 0.25, 0.25];
  expect(servingAfter(count, ...seconds(3, ...quarters), [0.1, 0.4, 0.4, 0.4, 0], ...seconds(9, ...quarters)).at(-1)).toBe(3);
  expect(servingAfter(count, ...seconds(10, ...quarters)).at(-1)).toBe(2);
  // Of those on standby, only the sum counts. The main thread would have to do its own work besides.
  expect(servingAfter(count, ...seconds(10, 0.1, 0.3, 0.1, 0, 0.01))).toEqual(Array(10).fill(2));
  expect(servingAfter(count, ...seconds(10, 0.1, 0.1, 0.1, 0, 0))).toEqual([...Array(9).fill(2), 1]);
  expect(servingAfter(count, ...seconds(30, 0, 0, 0, 0, 0)).at(-1)).toBe(1);
  expect(servingAfter(count, ...seconds(3, 0.8, 0, 0, 0, 0))).toEqual([1, 1, 2]);

  const further = new ThreadCount(3, 4);
  servingAfter(further, ...seconds(3, 1, 1, 1, 1));
  expect(servingAfter(further, ...seconds(11, 0, 0, 0, 0, 0)).at(-1)).toBe(3);
});

interface Methods {
  double(number: number): number;
  fail(kind: keyof typeof ERRORS): void;
  never(): Promise<void>;
}

const ERRORS = {
  refusal: new Refusal(429, 'later', 3),
  rows: new RowsRefused([[1, 4]]),
  malformed: new MalformedRequest('no'),
  other: new TypeError('wrong'),
};

test('a channel keeps the order of calls, and the kind of errors; what is asked of a thread that ends fails', async () => {
  const { port1, port2 } = new MessageChannel();
  const [asking, answering] = [port1, port2].map((port) => channelOver(port));
  const called: number[] = [];
  answering.answerWith({
    double: (number) => called.push(number) && 2 * number,
    fail(kind) {
      throw ERRORS[kind];
    },
    never: () => new Promise(() => {}),
  });
  expect(await Promise.all([1, 2, 3].map((number) => asking.call('double', number)))).toEqual([2, 4, 6]);
  expect(called).toEqual([1, 2, 3]);
  const errors = await Promise.all(
    (['refusal', 'rows', 'malformed', 'other'] as const).map((kind) => asking.call('fail', kind).catch(String)),
  );
  expect(errors).toEqual(Object.values(ERRORS).map(String));
  await expect(asking.call('fail', 'refusal')).rejects.toMatchObject({ status: 429, retryAfterSeconds: 3 });
  await expect(asking.call('fail', 'rows')).rejects.toBeInstanceOf(RowsRefused);
  const never = asking.call('never', undefined);
  asking.close();
  await expect(never).rejects.toMatchObject({ status: 500 });
  await expect(asking.call('double', 1)).rejects.toMatchObject({ status: 500 });
  port1.close();
});

function channelOver(port: MessagePort): Channel<Methods, Methods> {
  const channel = new Channel<Methods, Methods>(port);
  port.on('message', (packets: Parameters<typeof channel.receive>[0]) => channel.receive(packets));
  return channel;
}

test('the refusals of a queue have a number each', () => {
  expect(refusalOf(numberOf(undefined))).toBeUndefined();
  expect(refusalOf(numberOf(storageUnavailable()))).toEqual(storageUnavailable());
});

test('the span of an insert is on the clock of the trace, which another thread has begun', () => {
  const context = { traceId: '5b8efff798038103d269b633813fc60c', spanId: 'eee19b7ec3c1b174', traceFlags: 1 };
  const times: unknown[] = [];
  const tracer: SpanStarter = {
    table: { 'db.collection.name': 'otel_traces' },
    start(_name, parent, { startTime }) {
      times.push(startTime);
      return parent;
    },
  };
  // The wall clock of both threads is read in whole milliseconds.
  const block = BlockTrace.of(tracer, BlockTrace.of(tracer, { context, offsetMs: 5_000 }).blockSpan);
  const before = performance.now();
  block.startInsert([], 'http://127.0.0.1:8123', {});
  expect(times).toEqual([expect.toSatisfy((ms: number) => ms >= 5_000 + before && ms <= 5_000 + performance.now())]);
  expect(block.blockSpan).toEqual({ context, offsetMs: 5_000 });
});
