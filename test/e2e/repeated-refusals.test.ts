import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createStatements } from '../../src/storage/table.ts';
import { type Answer, PROTOBUF_TYPE, successOf } from '../support/clients/otlp-client.ts';
import { FORBIDDEN, ADD_CONSTRAINT, markedSpans, type MarkedSpans } from '../support/generators/marked-spans.ts';
import { accountsOf, expectBalance } from '../support/oracle/span-accounts.ts';
import { type ClickHouseProxy, startProxy } from '../support/servers/clickhouse-proxy.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, type Environment, startCollector, until } from '../support/servers/collector.ts';

/* Repeated requests (repeated-requests.test.ts) whose block holds spans that the table does not take (refused-spans.test.ts). */

const ACK_TIMEOUT_MS = 5_000;
const [, createTable] = createStatements('default', 'otel_traces');
const IN_PART = {
  partialSuccess: { rejectedSpans: '1', errorMessage: '1 span was rejected by ClickHouse: the table does not accept its values.' },
};

let clickhouse: TestClickHouse;
let proxy: ClickHouseProxy;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  proxy = await startProxy(clickhouse);
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});
beforeEach(async () => {
  proxy.restore();
  await clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC');
  await clickhouse.command(createTable);
  await clickhouse.command(`ALTER TABLE otel_traces ${ADD_CONSTRAINT}`);
});

const start = (env: Environment = {}) => startCollector({ clickhouse: proxy, env: { ACK_TIMEOUT_MS: String(ACK_TIMEOUT_MS), ...env } });
const mixed = () => markedSpans([undefined, undefined, FORBIDDEN, undefined]);
const send = (collector: Collector, { body }: MarkedSpans): Promise<Answer> => collector.send(body, PROTOBUF_TYPE);
const stored = async () =>
  (await clickhouse.query<{ SpanId: string }>('SELECT SpanId FROM otel_traces')).map(({ SpanId }) => SpanId).toSorted();
const goodOf = ({ spanIds }: MarkedSpans) => spanIds.filter((_, index) => index !== 2);

async function expectBalanced(collector: Collector): Promise<void> {
  await until(async () => (await collector.metrics()).get('hive_collector_requests_in_hand') === 0, 'all have their answers');
  expectBalance(accountsOf(await collector.metrics()));
}

describe('a ClickHouse that does not answer in time, and then refuses spans', () => {
  test('repeated requests are answered by what became of their own spans, and each good one is stored once', async () => {
    // Long enough to search for refused spans on a slow machine, in the blocks of several threads one by one.
    const ackTimeoutMs = 3 * ACK_TIMEOUT_MS;
    await using collector = await start({ BATCH_WORKERS: '1', ACK_TIMEOUT_MS: String(ackTimeoutMs) });
    // While another insert is in flight, all wait for the next, also those of different ingest threads.
    proxy.fail({ kind: 'late answer', ms: 1_500 }, 'inserts', 1);
    const insertsBefore = proxy.inserts;
    const before = markedSpans([undefined]);
    const first = send(collector, before);
    await until(() => proxy.inserts > insertsBefore, 'an insert is in flight');
    const requests = [markedSpans([undefined, undefined]), mixed(), markedSpans([FORBIDDEN])];
    const sendAll = () => Promise.all(requests.map((request) => send(collector, request)));
    proxy.fail({ kind: 'late answer', ms: 1.2 * ackTimeoutMs }, 'inserts', 1);
    expect((await sendAll()).map(({ status }) => status)).toEqual([503, 503, 503]);
    expect((await first).status).toBe(200);
    const [good, inPart, hopeless] = await sendAll();
    expect([good, inPart, hopeless].map(({ status }) => status)).toEqual([200, 200, 500]);
    expect(successOf(good)).toEqual({});
    expect(successOf(inPart)).toEqual(IN_PART);
    expect((await stored()).filter((id) => !before.spanIds.includes(id))).toEqual(
      [...requests[0].spanIds, ...goodOf(requests[1])].toSorted(),
    );
    expect(accountsOf(await collector.metrics())).toMatchObject({
      accepted: 6,
      storedAfterRefusal: 5,
      joined: 5,
      sent: 6,
      failed: 2,
      dropped: 0,
    });
    await expectBalanced(collector);
  });

  test('a block that is partly stored when its senders are refused is stored to the end, and a later request finds its spans', async () => {
    await using collector = await start();
    const request = mixed();
    // Refused twice after 3 s; the good ones are stored after 4.5 s; the bad one is refused alone after 6 s and 7.5 s.
    proxy.fail({ kind: 'late answer', ms: 1_500 });
    expect((await send(collector, request)).status).toBe(503);
    await until(async () => accountsOf(await collector.metrics()).storedAfterRefusal === 3, 'the good ones are stored');
    proxy.restore();
    const repeated = await send(collector, request);
    expect(repeated.status).toBe(200);
    expect(successOf(repeated)).toEqual(IN_PART);
    expect(await stored()).toEqual(goodOf(request).toSorted());
    await expectBalanced(collector);
  });
});

describe('what was answered in time', () => {
  test('with partial success is a new request when it comes again', async () => {
    await using collector = await start();
    const request = mixed();
    for (let times = 1; times <= 2; times++) {
      expect(successOf(await send(collector, request))).toEqual(IN_PART);
      expect(await stored()).toEqual(
        Array.from({ length: times }, () => goodOf(request))
          .flat()
          .toSorted(),
      );
    }
    expect(accountsOf(await collector.metrics())).toMatchObject({ accepted: 6, joined: 0 });
    await expectBalanced(collector);
  });

  test('with 500 is a new request, too: a table that takes it then has it', async () => {
    await using collector = await start();
    const request = markedSpans([FORBIDDEN, FORBIDDEN]);
    expect((await send(collector, request)).status).toBe(500);
    await clickhouse.command('ALTER TABLE otel_traces DROP CONSTRAINT allowed');
    expect((await send(collector, request)).status).toBe(200);
    expect(await stored()).toEqual(request.spanIds.toSorted());
    await expectBalanced(collector);
  });
});
