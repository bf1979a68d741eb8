import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { InsertPace } from '../../src/batch/insert-pace.ts';
import { InsertWorkers } from '../../src/batch/insert-workers.ts';
import { MemoryBudget } from '../../src/queue/memory-budget.ts';
import { MemoryQueue } from '../../src/queue/memory-queue.ts';
import { loadConfig } from '../../src/config/load-config.ts';
import { OpenBlock } from '../../src/blocks/open-block.ts';
import { Body } from '../../src/bodies/request-body.ts';
import type { Reservation } from '../../src/bodies/reservation.ts';
import type { StorageService } from '../../src/storage/storage.service.ts';
import type { BlockEncoder } from '../../src/transcode/block-encoder.ts';

/* The open block, the queue and the workers as they are, on a clock that the test sets, with a ClickHouse that takes 15 ms an insert. */

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'clearImmediate', 'performance'] });
  // Timers that are faked can't be disposed of otherwise.
  const [fakeTimeout, fakeImmediate] = [setTimeout, setImmediate];
  vi.stubGlobal('setTimeout', (callback: () => void, ms: number) => disposable(fakeTimeout(callback, ms), clearTimeout));
  vi.stubGlobal('setImmediate', (callback: () => void) => disposable(fakeImmediate(callback), clearImmediate));
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

function disposable<Timer extends object>(timer: Timer, clear: (timer: Timer) => void): Timer {
  return Object.assign(timer, { [Symbol.dispose]: () => clear(timer) });
}

const INSERT_MS = 15;
const ROUND_TRIP_MS = 1;
const BYTES_PER_SPAN = 400;

const delay = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms));
const memory = { releaseBody() {}, moveToBlock() {}, releaseBlock() {} } as unknown as Reservation;

/** Counts rows, and makes frames of their number. */
function fakeEncoder(): BlockEncoder {
  const encoder = {
    rows: 0,
    add([body]: [Buffer]) {
      const accepted = body.length / BYTES_PER_SPAN;
      encoder.rows += accepted;
      return { accepted, rejected: 0 };
    },
    seal() {
      const { rows } = encoder;
      encoder.rows = 0;
      return { rows, frame: Buffer.alloc(10 * rows) };
    },
  };
  return encoder as unknown as BlockEncoder;
}

function startCollector(env: Record<string, string> = {}, budget = new MemoryBudget(1024 ** 3), insertMs = INSERT_MS) {
  const config = loadConfig({ CLICKHOUSE_URL: 'http://clickhouse:8123', DISABLE_AUTH: 'true', ...env });
  const inserts: { rows: number; atMs: number }[] = [];
  const endpoint = { name: 'clickhouse', memory: 'clickhouse' };
  const storage = {
    availability: { all: [endpoint], ready: async () => endpoint },
    async insert(_endpoint: unknown, _frames: unknown, _token: unknown, rows: number) {
      inserts.push({ rows, atMs: performance.now() });
      await delay(insertMs);
      return { status: 'inserted' };
    },
  } as unknown as StorageService;
  const queue = new MemoryQueue({
    budget,
    ackTimeoutMs: config.ACK_TIMEOUT_MS,
    storageRefusal: () => undefined,
    keepDeadLetter: async () => {},
  });
  const pace = new InsertPace(config.BATCH_TIMEOUT_MS);
  const workers = new InsertWorkers(queue, storage, config, pace);
  const open = new OpenBlock(fakeEncoder(), config.SEAL_INTERVAL_MS, (block) => queue.push(block));
  queue.sealOpenBlock = () => open.seal();

  /** One request, as TracesService takes it. @returns how long its answer took, in ms */
  async function request(connection: object, spans: number): Promise<number> {
    const sentAtMs = performance.now();
    const sender = pace.startRequest(connection);
    const length = spans * BYTES_PER_SPAN;
    const { durable } = open.add(new Body([Buffer.alloc(length)], length, memory), 'protobuf', 'target');
    pace.countBody(length, sender);
    await durable;
    pace.endRequest(sender);
    return performance.now() - sentAtMs;
  }
  return { inserts, workers, request };
}

type FakeCollector = ReturnType<typeof startCollector>;

interface Load {
  readonly spans: number;
  readonly connections: number;
  /** Requests a second; without it, each connection sends its next request upon the answer. */
  readonly rate?: number;
  /** Time between an answer and the next request, in ms. */
  readonly workMs?: number;
}

/** Requests of many senders over a pool, as of a proxy: each takes a connection that is free, the one answered last or first. */
interface PooledLoad {
  readonly spans: number;
  readonly rate: number;
  readonly reuse: 'last' | 'first' | 'one for all';
}

/** Sends for some seconds after one to get used to it. @returns what came of each load, and the inserts a second */
async function send(collector: FakeCollector, loads: readonly (Load | PooledLoad)[], seconds = 4) {
  const beginMs = performance.now() + 1_000;
  const endMs = beginMs + seconds * 1_000;
  const results = loads.map((load) => {
    const { spans } = load;
    const latencies: number[] = [];
    if ('reuse' in load) {
      void sendPooled(collector, load, beginMs, endMs, latencies);
      return { spans, latencies };
    }
    const { connections, rate, workMs = ROUND_TRIP_MS } = load;
    let sent = 0;
    const connection = async () => {
      const key = {};
      for (;;) {
        const dueMs = rate === undefined ? performance.now() + workMs : beginMs - 1_000 + (sent++ * 1_000) / rate;
        if (dueMs > performance.now()) await delay(dueMs - performance.now());
        if (performance.now() >= endMs) return;
        const latency = await collector.request(key, spans);
        if (performance.now() >= beginMs) latencies.push(latency);
      }
    };
    void Promise.all(Array.from({ length: connections }, connection));
    return { spans, latencies };
  });
  await vi.advanceTimersByTimeAsync(seconds * 1_000 + 2_000);
  const inserts = collector.inserts.filter(({ atMs }) => atMs >= beginMs && atMs < endMs).length / seconds;
  const figures = results.map(({ spans, latencies }) => {
    latencies.sort((a, b) => a - b);
    return {
      spansPerSecond: Math.round((latencies.length * spans) / seconds),
      p50: latencies[latencies.length >> 1],
      p99: latencies[Math.floor(latencies.length * 0.99)],
    };
  });
  return { inserts, figures };
}

async function sendPooled(
  { request }: FakeCollector,
  { spans, rate, reuse }: PooledLoad,
  beginMs: number,
  endMs: number,
  latencies: number[],
) {
  const free: object[] = [];
  const shared = {};
  while (performance.now() < endMs) {
    const connection = reuse === 'one for all' ? shared : ((reuse === 'last' ? free.pop() : free.shift()) ?? {});
    void request(connection, spans).then((latency) => {
      free.push(connection);
      if (performance.now() >= beginMs) latencies.push(latency);
    });
    // Like real senders, not evenly: 0.2 to 1.8 of the average.
    await delay((1_000 / rate) * (0.2 + 1.6 * random()));
  }
}

/** The same figures in each run. */
function random(): number {
  seed = (seed * 16_807) % 2_147_483_647;
  return seed / 2_147_483_647;
}
let seed = 1;

/** Many senders, each of whom sends now and then. */
const LIGHT = { spans: 11, connections: 256, rate: 500 } satisfies Load;
/** One exporter that always has its next batch ready. */
const BUSY: Load = { spans: 512, connections: 1 };

describe('while requests keep coming, they are inserted together', () => {
  test.each([
    ['500 requests/s of 11 spans', LIGHT],
    ['40 requests/s of 517 spans', { spans: 517, connections: 64, rate: 40 }],
    ['2,000 requests/s of 11 spans', { ...LIGHT, connections: 1_000, rate: 2_000 }],
  ])('%s: BATCH_TIMEOUT_MS apart', async (_name, load) => {
    const { inserts, figures } = await send(startCollector(), [load]);
    expect(inserts).toBeLessThan(4);
    expect(figures[0].spansPerSecond).toBeGreaterThanOrEqual(load.rate * load.spans);
    expect(figures[0].p99).toBeLessThan(330);
  });

  test.each(
    [500, 100, 40, 1_000].flatMap((rate) => (['last', 'first', 'one for all'] as const).map((reuse) => ({ rate, reuse, spans: 11 }))),
  )('$rate requests/s over pooled connections, the one free $reuse', async (load) => {
    const { inserts, figures } = await send(startCollector(), [load]);
    // Of a few requests over a pool, many follow an answer immediately by chance.
    expect(inserts).toBeLessThan(load.rate < 100 ? 10 : 4);
    expect(figures[0].p99).toBeLessThan(330);
  });

  test('BATCH_TIMEOUT_MS is the longest wait', async () => {
    const { inserts, figures } = await send(startCollector({ BATCH_TIMEOUT_MS: '100' }), [LIGHT]);
    expect(inserts).toBeGreaterThan(9);
    expect(figures[0].p99).toBeLessThan(100 + INSERT_MS + 5);
  });

  test('when no more come, those that wait are inserted soon', async () => {
    const collector = startCollector();
    const answers = Array.from({ length: 50 }, async (_, index) => {
      await delay(2 * index);
      return collector.request({}, 11);
    });
    await vi.advanceTimersByTimeAsync(1_000);
    expect(collector.inserts.at(-1)!.atMs).toBeLessThan(98 + 60);
    expect(Math.max(...(await Promise.all(answers)))).toBeLessThan(200);
  });
});

describe('nobody waits for others who will not come', () => {
  test('a single request', async () => {
    const { figures } = await send(startCollector(), [{ spans: 11, connections: 1, rate: 1 }]);
    expect(figures[0].p99).toBeLessThan(20 + INSERT_MS + 3);
  });

  test('requests that are far apart', async () => {
    const { figures } = await send(startCollector(), [{ spans: 517, connections: 16, rate: 10 }]);
    expect(figures[0].p99).toBeLessThan(20 + INSERT_MS + 3);
  });

  test('a single request a second after many have come', async () => {
    const collector = startCollector();
    await send(collector, [LIGHT]);
    const latency = collector.request({}, 11);
    await vi.advanceTimersByTimeAsync(100);
    expect(await latency).toBeLessThan(30 + INSERT_MS + 3);
  });

  test.each([
    ['one', 1],
    ['128', 128],
  ])('requests of %s that each sends upon the answer to the one before', async (_name, connections) => {
    for (const workers of ['1', '4']) {
      const { figures } = await send(startCollector({ BATCH_WORKERS: workers }), [{ spans: 11, connections }]);
      expect(figures[0].p99).toBeLessThan(20 + INSERT_MS + 3);
    }
  });
});

describe('an exporter that always has more is not slowed down to one request each BATCH_TIMEOUT_MS', () => {
  test('alone', async () => {
    const { figures } = await send(startCollector(), [BUSY]);
    expect(figures[0].spansPerSecond).toBeGreaterThan(13_000);
  });

  test.each(['last', 'first', 'one for all'] as const)(
    'among 500 light requests a second over pooled connections, the one free %s',
    async (reuse) => {
      const { inserts, figures } = await send(startCollector(), [{ spans: 11, rate: 500, reuse }, BUSY]);
      expect(figures[1].spansPerSecond).toBeGreaterThan(5_000);
      expect(inserts).toBeLessThan(14);
    },
  );

  test('with 12 ms between an answer and its next request', async () => {
    const { figures } = await send(startCollector(), [LIGHT, { ...BUSY, workMs: 12 }]);
    expect(figures[1].spansPerSecond).toBeGreaterThan(4_000);
  });

  test.each([500, 2_000])('among %i light requests a second, which are still inserted together', async (rate) => {
    const { inserts, figures } = await send(startCollector(), [{ ...LIGHT, connections: 1_000, rate }, BUSY]);
    expect(figures[1].spansPerSecond).toBeGreaterThan(6_000);
    expect(inserts).toBeLessThan(14);
  });
});

describe('no wait at all', () => {
  test('when the insert is full', async () => {
    const collector = startCollector({ BATCH_MAX_SPANS: '1000' });
    const answers = Array.from({ length: 200 }, async (_, index) => {
      await delay(index);
      return collector.request({}, 517);
    });
    await vi.advanceTimersByTimeAsync(2_000);
    await Promise.all(answers);
    for (const { rows } of collector.inserts) expect(rows).toBeLessThan(6_000);
  });

  test('from the start of a shutdown on, also for requests that come after it', async () => {
    const collector = startCollector();
    await send(collector, [LIGHT]);
    const before = collector.request({}, 11);
    void collector.workers.drain();
    await vi.advanceTimersByTimeAsync(1);
    const after = collector.request({}, 11);
    await vi.advanceTimersByTimeAsync(100);
    expect(await before).toBe(INSERT_MS);
    expect(await after).toBe(INSERT_MS);
  });

  test('while the memory is half full', async () => {
    const budget = new MemoryBudget(1024 ** 3);
    budget.add(0.6 * 1024 ** 3);
    const { figures } = await send(startCollector({}, budget), [LIGHT]);
    expect(figures[0].p99).toBeLessThanOrEqual(2 * INSERT_MS);
  });
});

test('while an insert takes long, the next is sent after BATCH_TIMEOUT_MS', async () => {
  const collector = startCollector({}, undefined, 1_000);
  const { inserts } = await send(collector, [{ ...LIGHT, connections: 1_000 }]);
  expect(inserts).toBeGreaterThan(3);
  expect(inserts).toBeLessThan(4);
});
