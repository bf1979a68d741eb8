import { expect, test } from 'vitest';
import type { LargeBodies } from '../../src/blocks/large-bodies.ts';
import { TranscoderPool } from '../../src/blocks/transcoder-pool.ts';
import { Body } from '../../src/bodies/request-body.ts';
import type { Reservation } from '../../src/bodies/reservation.ts';
import { loadConfig } from '../../src/config/load-config.ts';
import type { BlockQueue } from '../../src/queue/block-queue.ts';
import type { MemoryPressure } from '../../src/queue/memory-pressure.ts';
import { RequestCounts } from '../../src/telemetry/request-counts.ts';
import type { StorageService } from '../../src/storage/storage.service.ts';

const DAY_MS = 86_400_000;

test('an encoder that takes the place of another near the memory limit goes by the limits of the table as well', async () => {
  const free: (() => void)[] = [];
  const queue = { push: async () => {} } as unknown as BlockQueue;
  const storage = { limits: { textColumns: [], maxRowAgeMs: 30 * DAY_MS } } as unknown as StorageService;
  const pressure = { onHigh: (callback: () => void) => free.push(callback) } as unknown as MemoryPressure;
  const config = loadConfig({ CLICKHOUSE_URL: 'http://127.0.0.1:1', DISABLE_AUTH: 'true', TRANSCODER_THREADS: '0' });
  const transcoders = new TranscoderPool(config, queue, storage, pressure, {} as LargeBodies, new RequestCounts());

  expect(await send(transcoders, 29)).toMatchObject({ accepted: 1, rejected: 0 });
  expect(await send(transcoders, 31)).toMatchObject({ accepted: 0, rejected: 1 });
  transcoders.seal();
  for (const callback of free) callback();
  expect(await send(transcoders, 29)).toMatchObject({ accepted: 1, rejected: 0 });
  expect(await send(transcoders, 31)).toMatchObject({ accepted: 0, rejected: 1 });
});

/** One span, so many days old. */
function send(transcoders: TranscoderPool, days: number) {
  const id = '0123456789abcdef';
  const startTimeUnixNano = `${Date.now() - days * DAY_MS}000000`;
  const span = { traceId: id + id, spanId: id, name: 'x', startTimeUnixNano, endTimeUnixNano: startTimeUnixNano };
  const body = Buffer.from(JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] }));
  const memory = { releaseBody() {}, moveToBlock() {}, releaseBlock() {} } as unknown as Reservation;
  return transcoders.transcode(new Body([body], body.length, memory), 'json', 'target');
}
