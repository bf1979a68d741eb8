import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Logger } from '@nestjs/common';
import { expect } from 'vitest';
import { InsertWorkers } from '../../../src/batch/insert-workers.ts';
import { loadConfig } from '../../../src/config/load-config.ts';
import { DeadLetters } from '../../../src/dead-letters/dead-letters.service.ts';
import { DiskBuffer } from '../../../src/disk-buffer/disk-buffer.service.ts';
import { StorageService } from '../../../src/storage/storage.service.ts';
import { BlockEncoder, type SealedBlock } from '../../../src/transcode/block-encoder.ts';
import type { TestClickHouse } from '../servers/clickhouse.ts';
import { until, type Environment } from '../servers/collector.ts';
import { gatewayProtobuf } from './payloads.ts';

Logger.overrideLogger(false);

let seed = 5_000_000;

export const SPANS_PER_BLOCK = 10;

/** A block of spans that no other block has. */
export function newBlock(spans = SPANS_PER_BLOCK): SealedBlock {
  const encoder = new BlockEncoder('hive');
  encoder.add([gatewayProtobuf({ spans, seed: ++seed }).body], 'protobuf', 'target');
  return encoder.seal();
}

/** A temporary directory for the rings of a test file. */
export function temporaryDir(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'ring-batching-'));
  return { path, remove: () => rmSync(path, { recursive: true }) };
}

/**
 * Starts a disk buffer, insert workers and storage, connected as the modules connect them.
 * @param dir of the disk buffer: blocks that are still in it are inserted
 * @param urls of the ClickHouse servers
 */
export function startRingBatching(dir: string, urls: readonly string[], env: Environment = {}) {
  const config = loadConfig({
    CLICKHOUSE_URL: urls.join(','),
    CLICKHOUSE_CREATE_SCHEMA: 'true',
    CLICKHOUSE_TIMEOUT_MS: '3000',
    DISABLE_AUTH: 'true',
    ENABLE_DISK_BUFFER: 'true',
    DISK_BUFFER_DIR: dir,
    DISK_BUFFER_MAX_SIZE_MB: '8',
    // Space is freed at once, not with the next sync.
    DISK_BUFFER_SYNC: 'none',
    BATCH_TIMEOUT_MS: '20',
    ...env,
  });
  const deadLetters = new DeadLetters(config);
  const diskBuffer = new DiskBuffer(config, deadLetters);
  const storage = new StorageService(config);
  const queue = diskBuffer.queue!;
  const workers = new InsertWorkers(queue, storage, config);
  storage.onModuleInit();
  let pushed = 0;

  const isEmpty = () => workers.busy === 0 && queue.waiting.blocks === 0 && diskBuffer.ring!.usedBytes === 0;
  const ended = () => storage.stats.inserts + storage.stats.failedInserts;
  return {
    config,
    deadLetters,
    ring: diskBuffer.ring!,
    queue,
    storage,
    workers,
    /** Blocks acknowledged so far. */
    get pushed() {
      return pushed;
    },
    /** Adds new blocks together. Resolves when they are acknowledged. */
    push(blocks: number, spansPerBlock = SPANS_PER_BLOCK): Promise<void> {
      return this.pushTogether(Array.from({ length: blocks }, () => newBlock(spansPerBlock)));
    },
    /**
     * Adds blocks so that no insert begins with only some of them, even where a busy machine takes longer than BATCH_TIMEOUT_MS between
     * two. Resolves when they are acknowledged.
     */
    async pushTogether(blocks: readonly SealedBlock[]): Promise<void> {
      const { onBlock } = queue;
      queue.onBlock = () => {};
      const acknowledged = blocks.map((block) => queue.push(block));
      queue.onBlock = onBlock;
      onBlock();
      await Promise.all(acknowledged);
      pushed += blocks.length;
    },
    /** Resolves when the disk buffer is empty. @throws Error when no insert ends within a minute: a search has many inserts */
    async drained(): Promise<void> {
      for (let before = ended(); !isEmpty(); before = ended())
        await until(() => isEmpty() || ended() > before, 'the disk buffer is empty, or another insert has ended');
    },
    async [Symbol.asyncDispose]() {
      await storage.onApplicationShutdown();
      await diskBuffer.onApplicationShutdown();
      deadLetters.onApplicationShutdown();
    },
  };
}

export type RingBatching = ReturnType<typeof startRingBatching>;

/** The number of rows in a table, and of different spans among them, on all servers together. */
export async function stored(servers: readonly TestClickHouse[], table = 'otel_traces'): Promise<{ rows: number; spans: number }> {
  const ids: string[] = [];
  for (const server of servers)
    ids.push(...(await server.query<{ id: string }>(`SELECT concat(TraceId, SpanId) AS id FROM ${table}`)).map(({ id }) => id));
  return { rows: ids.length, spans: new Set(ids).size };
}

/** Waits until a table holds so many rows, each span once. @throws with what it holds after a minute */
export async function untilStored(servers: readonly TestClickHouse[], rows: number): Promise<void> {
  await expect.poll(() => stored(servers)).toEqual({ rows, spans: rows });
}
