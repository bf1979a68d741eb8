import { afterAll, beforeAll, expect, test } from 'vitest';
import { startClickHouse, type TestClickHouse } from '../support/clickhouse.ts';
import { startCollector, until } from '../support/collector.ts';
import { expectStoredAsAnswered, outcomes, startLoad } from '../support/load.ts';

/* How many parts a steady load makes in ClickHouse, without the disk buffer. When inserts are due is in test/unit/insert-pace.test.ts. */

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const BATCH_TIMEOUT_MS = 300;
/** Longer than these, a sender's pause may have been one of all senders. */
const GAP_MS = 20;

test('requests that keep coming make an insert each BATCH_TIMEOUT_MS, and are answered when it is done', async () => {
  await using collector = await startCollector({ clickhouse, env: { BATCH_TIMEOUT_MS: String(BATCH_TIMEOUT_MS) } });
  const load = startLoad(collector.url, { senders: 80, pauseMs: 200 });
  await until(() => load.acknowledged() >= 600, 'senders are answered');
  const sent = await load.stop();

  expect(outcomes(sent)).toEqual({ 200: sent.length });
  await expectStoredAsAnswered(clickhouse, sent);
  await clickhouse.command('SYSTEM FLUSH LOGS');
  const [{ parts }] = await clickhouse.query<{ parts: string }>("SELECT count() AS parts FROM system.part_log WHERE table = 'otel_traces' AND event_type = 'NewPart'");
  const times = sent.map(({ sentAtMs }) => sentAtMs).toSorted((a, b) => a - b);
  // Where the machine is busy, senders are held up, too.
  const gaps = times.filter((atMs, index) => index > 0 && atMs - times[index - 1] > GAP_MS).length;
  expect(Number(parts)).toBeLessThanOrEqual((times.at(-1)! - times[0]) / BATCH_TIMEOUT_MS + gaps + 3);
});
