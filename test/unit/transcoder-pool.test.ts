import { expect, test } from 'vitest';
import type { BlockQueue } from '../../src/batch/block-queue.ts';
import { loadConfig } from '../../src/config/load-config.ts';
import type { Reservation } from '../../src/ingest/reservation.ts';
import { TranscoderPool } from '../../src/ingest/transcoder-pool.ts';
import { gatewayProtobuf } from '../support/payloads.ts';

/** What a request reserves, and where its block goes, is another's business. */
const memory = { releaseBody() {}, moveToBlock() {}, releaseBlock() {} } as unknown as Reservation;
const queue = { push: async () => {} } as unknown as BlockQueue;

test('large requests of several targets take turns', async () => {
  const pool = new TranscoderPool(loadConfig({ CLICKHOUSE_URL: 'http://127.0.0.1:1', DISABLE_AUTH: 'true', TRANSCODER_THREADS: '1', TRANSCODE_INLINE_KB: '1' }), queue);
  const done: string[] = [];
  const transcode = async (target: string, spans: number) => {
    const body = Buffer.from(gatewayProtobuf({ spans, seed: 1 }).body);
    const { accepted } = await pool.transcode({ pieces: [body], length: body.length, memory }, 'protobuf', target);
    done.push(`${target} ${accepted}`);
  };
  await Promise.all([...Array.from({ length: 12 }, () => transcode('flooder', 2_000)), transcode('small', 30)]);
  await pool.onApplicationShutdown();

  // One is at work when it comes, and it is the flooder's turn once more.
  expect(done.indexOf('small 30')).toBe(2);
  expect(done.toSorted()).toEqual([...Array.from({ length: 12 }, () => 'flooder 2000'), 'small 30']);
});
