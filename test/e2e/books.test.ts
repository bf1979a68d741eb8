import { afterAll, beforeAll, expect, test } from 'vitest';
import { startClickHouse, type TestClickHouse } from '../support/clickhouse.ts';
import { type Collector, startCollector, until } from '../support/collector.ts';
import { expectStoredAsAnswered, outcomes, type Sent, sendOne, SPANS_PER_TRACE, startLoad } from '../support/load.ts';
import { JSON_TYPE } from '../support/otlp-client.ts';

/* The books: what /metrics says of the spans is what senders were told, and what ClickHouse holds. */

const ACK_TIMEOUT_MS = 2_000;

let clickhouse: TestClickHouse;
let collector: Collector;

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  collector = await startCollector({ clickhouse, env: { ACK_TIMEOUT_MS: String(ACK_TIMEOUT_MS) } });
});
afterAll(async () => {
  await collector[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});

test('accepted spans are the rows in ClickHouse, and refused ones are counted apart', async () => {
  const load = startLoad(collector.url, { senders: 24 });
  await until(() => load.acknowledged() > 300, 'the load runs');
  await clickhouse.kill();
  await clickhouse.restart();
  const before = load.acknowledged();
  await until(() => load.acknowledged() > before + 300, 'the load goes on');
  const malformed = Array.from({ length: 10 }, () => collector.send('{', JSON_TYPE));
  const sent = [...(await load.stop())];
  await Promise.all(malformed);
  expect(outcomes(sent)[200]).toBeGreaterThan(600);

  const accepted = spansOf(sent, 200);
  await expectStoredAsAnswered(clickhouse, sent);
  expect(await rows()).toBe(accepted);
  expect(await books()).toEqual({ accepted, refused: 0, sent: accepted, failed: 0, waiting: 0, rejected: 0 });

  clickhouse.pause();
  const inVain = await Promise.all(Array.from({ length: 20 }, () => sendOne(collector.url))).finally(() => clickhouse.resume());
  expect(outcomes(inVain)).toEqual({ 503: 20 });
  const refused = spansOf(inVain, 503);
  // The insert that hung ends at last: its senders were told that it failed, so its rows are sent and not accepted.
  await until(async () => (await collector.metrics()).get('hive_collector_inserts_under_way') === 0, 'the insert has ended');
  const stored = await rows();
  expect(stored).toBeGreaterThan(accepted);
  expect(await books()).toEqual({ accepted, refused, sent: stored, failed: 0, waiting: 0, rejected: 0 });
});

function spansOf(sent: readonly Sent[], outcome: number): number {
  return sent.filter((one) => one.outcome === outcome).reduce((spans, { traceIds }) => spans + traceIds.length * SPANS_PER_TRACE, 0);
}

async function rows(): Promise<number> {
  const [{ count }] = await clickhouse.query<{ count: string }>('SELECT count() AS count FROM otel_traces');
  return Number(count);
}

async function books(): Promise<Record<string, number | undefined>> {
  const metrics = await collector.metrics();
  return {
    accepted: metrics.get('otelcol_receiver_accepted_spans_total'),
    refused: metrics.get('otelcol_receiver_refused_spans_total'),
    sent: metrics.get('otelcol_exporter_sent_spans_total'),
    failed: metrics.get('otelcol_exporter_send_failed_spans_total'),
    waiting: metrics.get('otelcol_exporter_queue_size'),
    rejected: metrics.get('hive_collector_rejected_spans_total'),
  };
}
