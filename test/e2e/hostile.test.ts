import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isOff } from '../../src/runtime/internals.ts';
import { measureUnderLoad } from '../support/clients/health-probe.ts';
import { hostileLoads, MEM_BUFFER_SIZE_MB, startForHostileLoad } from '../support/clients/hostile-load.ts';
import { expectStoredAsAnswered, sendOne, storedTraces } from '../support/clients/load.ts';
import { attacks } from '../support/generators/attacks.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, ingestThreadsMb, until } from '../support/servers/collector.ts';
import { processMemoryMb } from '../support/servers/process-memory.ts';

/* Hostile load on the built program. `node bench/hostile.ts` prints the figures that are only held against loose bounds here. */

/** What the program needs to run, what worker threads make of the largest body beside it, and what ingest threads take. */
const MAX_RSS_MB = 350 + MEM_BUFFER_SIZE_MB + 10 * 64 + ingestThreadsMb;

/** Of an idle process after all loads: what V8 and malloc keep, caches, and compiled code. */
const MAX_IDLE_MB = 380 + ingestThreadsMb;

/**
 * The most CPU time of the event loop during one request for the health. How long that takes depends also on what else runs on the machine.
 * Without `parser-stop`, what was sent in advance behind a refusal is parsed: it takes seconds longer.
 */
const MAX_HEALTH_CPU_MS = isOff('parser-stop') ? 15_000 : 3_000;

let clickhouse: TestClickHouse;
let collector: Collector;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  collector = await startForHostileLoad(clickhouse, { TRANSCODER_THREADS: '2' });
});
afterAll(async () => {
  await collector[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});

describe('the collector stays up and healthy, within its memory, under', () => {
  test.each(Object.entries(hostileLoads))('%s', { timeout: 120_000 }, async (_, load) => {
    const { failed, cpuMaxMs, peakRssMb, polls } = await measureUnderLoad(collector, () => load(collector));

    expect({ failed, isUp: polls > 0 }).toEqual({ failed: 0, isUp: true });
    expect(cpuMaxMs).toBeLessThan(MAX_HEALTH_CPU_MS);
    expect(peakRssMb).toBeLessThan(MAX_RSS_MB);

    await until(async () => {
      const metrics = await collector.metrics();
      return metrics.get('hive_collector_requests_in_hand') === 0 && metrics.get('hive_collector_memory_used_bytes') === 0;
    }, 'nothing is in hand');
    const sent = await sendOne(collector.url);
    expect(sent.outcome).toBe(200);
    await expectStoredAsAnswered(clickhouse, [sent]);
  });
});

test.skipIf(isOff('full-collection') || isOff('malloc-trim'))('an idle collector releases the memory that the loads took', async () => {
  await until(() => processMemoryMb(collector.pid, 'RssAnon') < MAX_IDLE_MB, `the process takes less than ${MAX_IDLE_MB} MB`);
});

/** To the refused request and to the good one behind it, which has none where the refusal ends the connection. */
const ANSWERS: Readonly<Record<keyof typeof attacks, readonly (number | string)[]>> = {
  'a foreign Origin, the last ten bytes only after the answer': [403, 'no answer'],
  'a foreign Origin': [403, 'no answer'],
  'two headers Host': [400, 'no answer'],
  'a Content-Length over the limit': [413, 'no answer'],
  'a body that lacks its last byte': [400, 200],
  'a foreign Origin over gRPC': ['PERMISSION_DENIED'],
  'calls of gRPC that are reset before their last ten bytes': ['reset'],
};

describe('nothing is stored of a request that is not answered 200, and no good sender notices', () => {
  test.each(Object.entries(attacks))('%s', async (name, attack) => {
    const [sent, good] = await Promise.all([
      attack(collector),
      sendOne(collector.url, undefined, 1, { 'x-hive-target-ref': 'target-good' }),
    ]);
    expect(new Set(sent.map(({ outcome }) => outcome))).toEqual(new Set(ANSWERS[name]));
    expect(good.outcome).toBe(200);

    await until(async () => (await collector.metrics()).get('hive_collector_requests_in_hand') === 0, 'nothing is in hand');
    const stored = await storedTraces(clickhouse);
    expect(sent.filter(({ traceIds, outcome }) => traceIds.some((traceId) => stored.has(traceId)) !== (outcome === 200))).toEqual([]);
    await expectStoredAsAnswered(clickhouse, [...sent, good]);
  });
});
