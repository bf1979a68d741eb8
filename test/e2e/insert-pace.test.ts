import { Agent } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { startCollector } from '../support/servers/collector.ts';
import { expectStoredAsAnswered, outcomes, type Sent, sendOne } from '../support/clients/load.ts';

/* How many parts a steady load makes in ClickHouse, without the disk buffer. When inserts are due is in test/unit/insert-pace.test.ts. */

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

const REQUESTS = 500;
const APART_MS = 10;
/** The collector knows the pace of the requests after a second. */
const LEARNING_MS = 1_000;
const BATCH_TIMEOUT_MS = 1_000;
/** The collector takes a pause of 30 ms for the end of the requests. */
const PAUSE_MS = 25;

test.each([
  ['a connection of its own', false],
  ['one of pooled connections', true],
])('requests that keep coming, each over %s, make an insert each BATCH_TIMEOUT_MS', async (_name, keepAlive) => {
  await using collector = await startCollector({ clickhouse, env: { BATCH_TIMEOUT_MS: String(BATCH_TIMEOUT_MS) } });
  const agent = new Agent({ keepAlive });
  const requests: Promise<Sent>[] = [];
  const knownAtMs = Date.now() + LEARNING_MS;
  for (let count = 0; count < REQUESTS; count++) {
    requests.push(sendOne(collector.url, agent));
    await delay(APART_MS);
  }
  const sent = await Promise.all(requests);
  agent.destroy();

  expect(outcomes(sent)).toEqual({ 200: REQUESTS });
  await expectStoredAsAnswered(clickhouse, sent);
  await clickhouse.command('SYSTEM FLUSH LOGS');
  const [{ parts }] = await clickhouse.query<{ parts: string }>(
    "SELECT count() AS parts FROM system.part_log WHERE table = 'otel_traces' AND event_type = 'NewPart'" +
      ` AND event_time_microseconds > fromUnixTimestamp64Milli(${knownAtMs})`,
  );
  // Where the machine is busy, the test itself is held up.
  const pauses = sent.filter(({ sentAtMs }, index) => index > 0 && sentAtMs - sent[index - 1].sentAtMs > PAUSE_MS).length;
  expect(Number(parts)).toBeLessThanOrEqual((sent.at(-1)!.sentAtMs - sent[0].sentAtMs) / BATCH_TIMEOUT_MS + pauses + 3);
});
