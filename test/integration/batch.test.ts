import { createClient } from '@clickhouse/client';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { InsertPace } from '../../src/batch/insert-pace.ts';
import { InsertWorkers } from '../../src/batch/insert-workers.ts';
import { loadConfig } from '../../src/config/load-config.ts';
import type { Config } from '../../src/config/variables.ts';
import { Refusal } from '../../src/otlp/refusal.ts';
import { MemoryBudget } from '../../src/queue/memory-budget.ts';
import { MemoryQueue } from '../../src/queue/memory-queue.ts';
import { StorageService } from '../../src/storage/storage.service.ts';
import { checkTable } from '../../src/storage/table-check.ts';
import { BlockEncoder, type SealedBlock } from '../../src/transcode/block-encoder.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';

let clickhouse: TestClickHouse;
let seed = 0;

beforeAll(async () => {
  clickhouse = await startClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());
beforeEach(() => clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC'));

/** Queue, workers and ClickHouse, wired as BatchModule does. */
function startBatching(env: Record<string, string> = {}) {
  const config: Config = loadConfig({
    CLICKHOUSE_URL: clickhouse.url,
    CLICKHOUSE_CREATE_SCHEMA: 'true',
    DISABLE_AUTH: 'true',
    ACK_TIMEOUT_MS: '60000',
    ...env,
  });
  const storage = new StorageService(config);
  const budget = new MemoryBudget(1024 ** 3);
  const queue = new MemoryQueue({
    budget,
    ackTimeoutMs: config.ACK_TIMEOUT_MS,
    storageRefusal: () => undefined,
    keepDeadLetter: async () => {},
  });
  const workers = new InsertWorkers(queue, storage, config, new InsertPace(config.BATCH_TIMEOUT_MS));
  storage.onModuleInit();
  return {
    storage,
    budget,
    queue,
    workers,
    async [Symbol.asyncDispose]() {
      await storage.onApplicationShutdown();
    },
  };
}

function block(spans: number): SealedBlock {
  const encoder = new BlockEncoder('hive');
  encoder.add([gatewayProtobuf({ spans, seed: ++seed }).body], 'protobuf', 'target');
  return encoder.seal();
}

async function storedRows(): Promise<number> {
  const [{ rows }] = await clickhouse.query<{ rows: string }>('SELECT count() AS rows FROM otel_traces');
  return Number(rows);
}

/** Parts as inserts wrote them: merges leave them behind, inactive, for some minutes. */
async function insertsSeen(): Promise<number> {
  const [{ parts }] = await clickhouse.query<{ parts: string }>(
    "SELECT count() AS parts FROM system.parts WHERE table = 'otel_traces' AND level = 0",
  );
  return Number(parts);
}

describe('inserting', () => {
  test('stores blocks that wait together as one insert, and then says so', async () => {
    await using batching = startBatching({ BATCH_TIMEOUT_MS: '60000' });
    await batching.storage.availability.whenUp();
    // They wait together while the insert before them is in flight.
    clickhouse.pause();
    const pushed = [batching.queue.push(block(10))];
    try {
      await expect.poll(() => batching.workers.busy).toBe(1);
      pushed.push(...Array.from({ length: 20 }, () => batching.queue.push(block(10))));
    } finally {
      clickhouse.resume();
    }
    await Promise.all(pushed);
    expect(await storedRows()).toBe(210);
    expect(await insertsSeen()).toBe(2);
    expect(batching.budget.usedBytes).toBe(0);
  });

  test('starts another insert at BATCH_MAX_SPANS without waiting', async () => {
    await using batching = startBatching({ BATCH_MAX_SPANS: '50', BATCH_TIMEOUT_MS: '60000' });
    await batching.storage.availability.whenUp();
    const blocks = Array.from({ length: 20 }, () => block(10));
    await Promise.all(blocks.map((sealed) => batching.queue.push(sealed)));
    expect(await storedRows()).toBe(200);
    expect(await insertsSeen()).toBeGreaterThanOrEqual(4);
  });

  test('finds the one block that ClickHouse refuses among many, and stores the others', async () => {
    await using batching = startBatching();
    await batching.storage.availability.whenUp();
    const good = Array.from({ length: 9 }, () => block(10));
    const bad: SealedBlock = { frame: Buffer.from('this is no zstd frame'), rows: 10 };
    const pushed = [...good.slice(0, 4), bad, ...good.slice(4)].map((sealed) => batching.queue.push(sealed));
    const outcomes = await Promise.allSettled(pushed);
    expect(outcomes.map(({ status }) => status)).toEqual(outcomes.map((_, i) => (i === 4 ? 'rejected' : 'fulfilled')));
    expect((outcomes[4] as PromiseRejectedResult).reason).toMatchObject({ status: 500 });
    expect(await storedRows()).toBe(90);
    expect(batching.workers.stats.refusedRows).toBe(10);
    expect(batching.budget.usedBytes).toBe(0);
  });

  test('keeps spans while the table is missing, and stores them once when it is there', async () => {
    await using batching = startBatching({ CLICKHOUSE_CREATE_SCHEMA: 'false' });
    const stored = batching.queue.push(block(10));
    await expect
      .poll(() => batching.storage.availability.status)
      .toMatchObject({ state: 'down', reason: expect.stringContaining('does not exist') });
    await startAndStop({ CLICKHOUSE_CREATE_SCHEMA: 'true' });
    await stored;
    expect(await storedRows()).toBe(10);
  });

  test('names the column that a table lacks instead of losing what is in it', async () => {
    await startAndStop({});
    await clickhouse.command('ALTER TABLE otel_traces DROP COLUMN StatusMessage');
    await using batching = startBatching({ CLICKHOUSE_CREATE_SCHEMA: 'false' });
    await expect
      .poll(() => batching.storage.availability.status)
      .toMatchObject({ state: 'down', reason: expect.stringContaining('has no column StatusMessage') });
  });

  test('keeps a block that a changed table refuses, and stores it once when the table is fixed', async () => {
    await using batching = startBatching();
    await batching.storage.availability.whenUp();
    await clickhouse.command('ALTER TABLE otel_traces MODIFY COLUMN SpanKind Int8');
    const stored = batching.queue.push(block(10));
    await expect
      .poll(() => batching.storage.availability.status)
      .toMatchObject({ state: 'down', reason: expect.stringContaining('has SpanKind as Int8') });
    await clickhouse.command('ALTER TABLE otel_traces MODIFY COLUMN SpanKind String');
    await stored;
    expect(await storedRows()).toBe(10);
  });

  test('sends a block again after ClickHouse was killed, and it is stored once', async () => {
    await using batching = startBatching();
    await batching.storage.availability.whenUp();
    const first = batching.queue.push(block(10));
    await clickhouse.kill();
    const second = batching.queue.push(block(10));
    await clickhouse.restart();
    await Promise.all([first, second]);
    expect(await storedRows()).toBe(20);
  });

  test('refuses a block at its deadline, and throws it away when it was never sent', async () => {
    await using batching = startBatching({ ACK_TIMEOUT_MS: '300' });
    await batching.storage.availability.whenUp();
    clickhouse.pause();
    try {
      const sent = batching.queue.push(block(10));
      await expect(sent).rejects.toBeInstanceOf(Refusal);
      const waiting = batching.queue.push(block(10));
      await expect(waiting).rejects.toMatchObject({ status: 503, retryAfterSeconds: 1 });
    } finally {
      clickhouse.resume();
    }
    await expect.poll(() => batching.workers.busy).toBe(0);
    expect(batching.queue.waiting).toMatchObject({ blocks: 0, rows: 0, bytes: 0 });
    expect(batching.budget.usedBytes).toBe(0);
    await batching.queue.push(block(10));
  });
});

describe('the check of the table', () => {
  const DATABASE = { CLICKHOUSE_DATABASE: 'checked' };

  async function warnings(): Promise<string[]> {
    const client = createClient({ url: clickhouse.url });
    try {
      return await checkTable(client, loadConfig({ CLICKHOUSE_URL: clickhouse.url, DISABLE_AUTH: 'true', ...DATABASE }));
    } finally {
      await client.close();
    }
  }

  test('has nothing to say of the schema the collector creates', async () => {
    await startAndStop(DATABASE);
    expect(await warnings()).toEqual([]);
  });

  test('warns of a table that does not deduplicate repeated inserts, and of those behind its views, with what to run', async () => {
    await startAndStop(DATABASE);
    await clickhouse.command('ALTER TABLE checked.otel_traces MODIFY SETTING non_replicated_deduplication_window = 0');
    await clickhouse.command('CREATE TABLE checked.target (n UInt64) ENGINE = MergeTree ORDER BY n');
    await clickhouse.command('CREATE MATERIALIZED VIEW checked.to_table TO checked.target AS SELECT count() AS n FROM checked.otel_traces');
    await clickhouse.command(
      'CREATE MATERIALIZED VIEW checked.with_inner ENGINE = MergeTree ORDER BY n AS SELECT count() AS n FROM checked.otel_traces',
    );
    const found = await warnings();
    expect(found).toHaveLength(3);
    for (const warning of found) await clickhouse.command(warning.split('Run: ')[1]);
    expect(await warnings()).toEqual([]);
  });
});

async function startAndStop(env: Record<string, string>): Promise<void> {
  await using batching = startBatching(env);
  await batching.storage.availability.whenUp();
}

describe('MemoryBudget', () => {
  test('is full from 90 % on, until it is below 70 % again', () => {
    const budget = new MemoryBudget(100);
    const states: boolean[] = [];
    for (const bytes of [89, 1, -20, -1, 20]) {
      budget.add(bytes);
      states.push(budget.shortage() === 'memory');
    }
    expect(states).toEqual([false, true, true, false, false]);
  });

  test('is exceeded beyond the limit', () => {
    const budget = new MemoryBudget(100);
    budget.add(100);
    expect(budget.exceeded()).toBeUndefined();
    budget.add(1);
    expect(budget.exceeded()).toBe('memory');
    budget.release(1);
    expect(budget.exceeded()).toBeUndefined();
  });
});
