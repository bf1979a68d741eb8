import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { expectStoredAsAnswered, outcomes, type Sent, sendOne, SPANS_PER_TRACE, startLoad } from '../support/clients/load.ts';
import { JSON_TYPE } from '../support/clients/otlp-client.ts';
import { accountsOf, expectBalance } from '../support/oracle/span-accounts.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';

/*
 * The accounts of spans: what /metrics counts agrees with what senders were answered, and with what ClickHouse holds.
 *
 *   accepted + recovered + storedAfterRefusal = sent + buffered + dropped + joined
 */

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());
beforeEach(() => clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC'));

describe('without the disk buffer', () => {
  test('the accounts balance after ClickHouse was killed, and what comes of it is counted as it was answered', async () => {
    await using collector = await startCollector({ clickhouse });
    const load = startLoad(collector.url, { senders: 24 });
    await until(() => load.acknowledged() > 300, 'the load runs');
    await clickhouse.kill();
    await clickhouse.restart();
    const before = load.acknowledged();
    await until(() => load.acknowledged() > before + 300, 'the load goes on', 60_000);
    const malformed = Array.from({ length: 10 }, () => collector.send('{', JSON_TYPE));
    const sent = await load.stop();
    await Promise.all(malformed);
    await untilIdle(collector);

    await expectStoredAsAnswered(clickhouse, sent);
    const accounts = accountsOf(await collector.metrics());
    expect(accounts).toMatchObject({
      accepted: spansOf(sent, 200),
      recovered: 0,
      sent: await rows(),
      buffered: 0,
      dropped: 0,
      rejected: 0,
      failed: 0,
    });
    // Some were refused before they were read.
    expect(accounts.refused).toBeLessThanOrEqual(spansOf(sent, 503));
    expectBalance(accounts);
  });

  test('spans that are stored too late are refused, and counted as stored after a refusal', async () => {
    await using collector = await startCollector({ clickhouse, env: { ACK_TIMEOUT_MS: '1000' } });
    clickhouse.pause();
    const inVain = await Promise.all(Array.from({ length: 20 }, () => sendOne(collector.url))).finally(() => clickhouse.resume());
    expect(outcomes(inVain)).toEqual({ 503: 20 });
    // The insert that hung ends at last: its senders were told that it failed.
    await untilIdle(collector);

    const stored = await rows();
    expect(stored).toBeGreaterThan(0);
    const accounts = accountsOf(await collector.metrics());
    expect(accounts).toMatchObject({
      accepted: 0,
      refused: spansOf(inVain, 503),
      storedAfterRefusal: stored,
      sent: stored,
      buffered: 0,
      dropped: 0,
    });
    expectBalance(accounts);
  });
});

describe('with the disk buffer', () => {
  let env: Readonly<Record<string, string>>;
  beforeEach(() => {
    const dir = mkdtempSync(join(tmpdir(), 'accounts-'));
    env = { ENABLE_DISK_BUFFER: 'true', DISK_BUFFER_DIR: dir, DISK_BUFFER_MAX_SIZE_MB: '8', BATCH_TIMEOUT_MS: '50' };
    return () => rmSync(dir, { recursive: true });
  });

  test('what an outage leaves in it is buffered; a process that was killed leaves it to the next, which recovers it', async () => {
    await using first = await startCollector({ clickhouse, env });
    const load = startLoad(first.url, { pauseMs: 5 });
    await until(() => load.acknowledged() > 100, 'the load runs');
    await clickhouse.kill();
    const before = load.acknowledged();
    await until(() => load.acknowledged() > before + 100, 'the load goes on');
    const sent = [...(await load.stop())];
    await until(async () => (await first.metrics()).get('hive_collector_clickhouse_up') === 0, 'nothing is stored any more');

    const atTheKill = accountsOf(await first.metrics());
    expect(atTheKill).toMatchObject({ accepted: spansOf(sent, 200), recovered: 0, storedAfterRefusal: 0, dropped: 0 });
    expect(atTheKill.buffered).toBeGreaterThan(0);
    expectBalance(atTheKill);

    await first.kill();
    await using second = await startCollector({ env: { ...env, CLICKHOUSE_URL: clickhouse.url } });
    expect(accountsOf(await second.metrics())).toMatchObject({
      accepted: 0,
      recovered: atTheKill.buffered,
      sent: 0,
      buffered: atTheKill.buffered,
    });
    for (let request = 0; request < 5; request++) sent.push(await sendOne(second.url));

    await clickhouse.restart();
    await until(async () => accountsOf(await second.metrics()).buffered === 0, 'the disk buffer is empty');
    const atTheEnd = accountsOf(await second.metrics());
    expect(atTheEnd).toMatchObject({ accepted: 5 * SPANS_PER_TRACE, recovered: atTheKill.buffered, dropped: 0 });
    expectBalance(atTheEnd);
    await expectStoredAsAnswered(clickhouse, sent);
    expect(await rows()).toBe(spansOf(sent, 200));
  });

  test('what ClickHouse refuses for good is dropped, as a dead letter', async () => {
    await using collector = await startCollector({ clickhouse, env });
    await until(async () => (await collector.metrics()).get('hive_collector_clickhouse_up') === 1, 'the table is there');
    await clickhouse.command("ALTER TABLE otel_traces ADD CONSTRAINT no_poison CHECK SpanName != 'poison'");
    expect((await collector.send(oneSpan('poison'), JSON_TYPE)).status).toBe(200);
    expect((await collector.send(oneSpan('good'), JSON_TYPE)).status).toBe(200);
    await until(async () => accountsOf(await collector.metrics()).buffered === 0, 'the disk buffer is empty');

    const accounts = accountsOf(await collector.metrics());
    expect(accounts).toMatchObject({ accepted: 2, sent: 1, dropped: 1, failed: 1 });
    expect((await collector.metrics()).get('hive_collector_dropped_spans_total{reason="dead_letter"}')).toBe(1);
    expectBalance(accounts);
  });

  test('with ACK_MODE=received, what turns out not to fit is dropped', async () => {
    await using collector = await startCollector({ clickhouse, env: { ...env, ACK_MODE: 'received', DISK_BUFFER_MAX_SIZE_MB: '1' } });
    expect((await collector.send(oneSpan(randomBytes(2 * 1024 ** 2).toString('hex')), JSON_TYPE)).status).toBe(200);
    expect((await collector.send(oneSpan('good'), JSON_TYPE)).status).toBe(200);
    await until(async () => accountsOf(await collector.metrics()).sent === 1, 'the other one is stored');

    const accounts = accountsOf(await collector.metrics());
    expect(accounts).toMatchObject({ accepted: 2, buffered: 0, dropped: 1 });
    expect((await collector.metrics()).get('hive_collector_dropped_spans_total{reason="too_large"}')).toBe(1);
    expectBalance(accounts);
  });
});

async function untilIdle(collector: Collector): Promise<void> {
  await until(async () => {
    const metrics = await collector.metrics();
    return metrics.get('hive_collector_queue_spans') === 0 && metrics.get('hive_collector_inserts_under_way') === 0;
  }, 'no insert is under way');
}

function spansOf(sent: readonly Sent[], outcome: number): number {
  return sent.filter((one) => one.outcome === outcome).reduce((spans, { traceIds }) => spans + traceIds.length * SPANS_PER_TRACE, 0);
}

async function rows(): Promise<number> {
  const [{ count }] = await clickhouse.query<{ count: string }>('SELECT count() AS count FROM otel_traces');
  return Number(count);
}

function oneSpan(name: string): string {
  const now = `${Date.now()}000000`;
  const span = {
    traceId: randomBytes(16).toString('hex'),
    spanId: randomBytes(8).toString('hex'),
    name,
    startTimeUnixNano: now,
    endTimeUnixNano: now,
  };
  return JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] });
}
