import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createStatements } from '../../src/storage/table.ts';
import { accept, hangUp, json, raw, startHive } from '../integration/auth-hive.ts';
import { expectStoredAsAnswered, outcomes, sendOne, SPANS_PER_TRACE, startLoad } from '../support/clients/load.ts';
import { type Answer, JSON_TYPE, PROTOBUF_TYPE, send, statusOf } from '../support/clients/otlp-client.ts';
import { connectRaw } from '../support/clients/raw-socket.ts';
import { incompressible } from '../support/generators/incompressible.ts';
import { gatewayProtobuf, hiveGatewayBatch } from '../support/generators/payloads.ts';
import { expectedRows } from '../support/oracle/expected-rows.ts';
import { encodeRequest } from '../support/oracle/otlp-request.ts';
import { parsedJson } from '../support/oracle/parsed-json.ts';
import { inOrder, storedRows } from '../support/oracle/stored-rows.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';

/* What senders are told, and what is in ClickHouse, when the things around the collector fail. */

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());
beforeEach(() => clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC'));

describe('under load, what is answered 200 is stored once, and what is not is stored whole or not at all', () => {
  test('while ClickHouse is killed and started again, three times', async () => {
    await using collector = await startCollector({ clickhouse });
    const load = startLoad(collector.url, { senders: 32 });
    for (let round = 0; round < 3; round++) {
      await untilMoreAcknowledged(load, 150);
      clickhouse.pause();
      await until(async () => (await collector.metrics()).get('hive_collector_inserts_under_way')! > 0, 'an insert is under way');
      await clickhouse.kill();
      await clickhouse.restart();
    }
    await untilMoreAcknowledged(load, 150);

    const sent = await load.stop();
    await expectStoredAsAnswered(clickhouse, sent);
    const metrics = await collector.metrics();
    expect(metrics.get('hive_collector_insert_failures_total')).toBeGreaterThanOrEqual(3);
    // Those in hand at the kill were stored by a later try, and answered 200.
    expect(metrics.get('otelcol_receiver_refused_spans_total')).toBe(0);
  });

  test('while ClickHouse is gone for longer than ACK_TIMEOUT_MS', async () => {
    await using collector = await startCollector({ clickhouse, env: { ACK_TIMEOUT_MS: '300' } });
    const load = startLoad(collector.url, { senders: 32 });
    await untilMoreAcknowledged(load, 150);
    await clickhouse.kill();
    // The first ones because their time is up, the others before they are read.
    await until(() => (outcomes(load.sent)[503] ?? 0) >= 96, 'senders are told');
    await clickhouse.restart();
    await untilMoreAcknowledged(load, 150);

    const sent = await load.stop();
    expect(Object.keys(outcomes(sent))).toEqual(['200', '503']);
    await expectStoredAsAnswered(clickhouse, sent);
  });

  test('while ClickHouse hangs for longer than ACK_TIMEOUT_MS', async () => {
    await using collector = await startCollector({ clickhouse, env: { ACK_TIMEOUT_MS: '300' } });
    const load = startLoad(collector.url, { senders: 32 });
    for (let round = 0; round < 2; round++) {
      await untilMoreAcknowledged(load, 100);
      const refusedBefore = outcomes(load.sent)[503] ?? 0;
      clickhouse.pause();
      await until(() => (outcomes(load.sent)[503] ?? 0) >= refusedBefore + 64, 'senders are told').finally(() => clickhouse.resume());
    }
    await untilMoreAcknowledged(load, 100);

    const sent = await load.stop();
    expect(Object.keys(outcomes(sent))).toEqual(['200', '503']);
    // Inserts that hung have their end, too.
    await until(async () => (await collector.metrics()).get('hive_collector_inserts_under_way') === 0, 'the inserts have ended');
    await expectStoredAsAnswered(clickhouse, sent);
  });

  test('while its table is taken away and made anew', async () => {
    const [, createTable] = createStatements('default', 'otel_traces');
    await clickhouse.command(createTable);
    await using collector = await startCollector({ clickhouse, env: { CLICKHOUSE_CREATE_SCHEMA: 'false', ACK_TIMEOUT_MS: '1000' } });
    const load = startLoad(collector.url);
    await untilMoreAcknowledged(load, 100);
    // Not dropped: an insert that ends as the table goes would be gone with it.
    await clickhouse.command('RENAME TABLE otel_traces TO otel_traces_before');
    await until(async () => (await collector.ready()) === 503, 'the collector is not ready');
    await until(() => collector.output().includes('The table default.otel_traces does not exist'), 'the operator is told');
    await clickhouse.command(createTable);
    await untilMoreAcknowledged(load, 100);

    await expectStoredAsAnswered(clickhouse, await load.stop(), ['otel_traces', 'otel_traces_before']);
    await clickhouse.command('DROP TABLE otel_traces_before SYNC');
  });

  test('while malformed requests come in between', async () => {
    await using collector = await startCollector({ clickhouse });
    const load = startLoad(collector.url, { senders: 8 });
    const good = Array.from({ length: 60 }, (_, seed) => (seed % 2 === 0 ? hiveGatewayBatch : gatewayProtobuf)({ spans: 30, seed }));
    const statuses = await Promise.all(
      good.flatMap(({ body }, seed) => {
        const type = seed % 2 === 0 ? JSON_TYPE : PROTOBUF_TYPE;
        const cut = body.subarray(0, body.length - 1 - seed);
        return [collector.send(cut, type), collector.send(body, type), collector.send(randomBytes(500), type)].map(
          async (answer) => (await answer).status,
        );
      }),
    );

    expect(statuses).toEqual(good.flatMap(() => [400, 200, 400]));
    const expected = good.flatMap(({ body }, seed) =>
      expectedRows(seed % 2 === 0 ? encodeRequest(parsedJson(body.toString())) : body, 'target-1', 'hive'),
    );
    expect(
      await storedRows(
        clickhouse,
        good.flatMap(({ traceIds }) => traceIds),
      ),
    ).toEqual(inOrder(expected));
    await expectStoredAsAnswered(clickhouse, await load.stop());
  });
});

describe('with ACK_MODE=received', () => {
  test('spans are taken while ClickHouse is away, and stored when it comes back', async () => {
    await using collector = await startCollector({ clickhouse, env: { ACK_MODE: 'received', ACK_TIMEOUT_MS: '100' } });
    await clickhouse.kill();
    const load = startLoad(collector.url);
    await untilMoreAcknowledged(load, 300);
    const sent = await load.stop();
    expect(outcomes(sent)).toEqual({ 200: sent.length });
    await clickhouse.restart();
    await until(
      async () => (await collector.metrics()).get('otelcol_exporter_sent_spans_total') === sent.length * 2 * SPANS_PER_TRACE,
      'everything is sent',
    );
    await expectStoredAsAnswered(clickhouse, sent);
  });

  test('a stop stores what is taken after it began', async () => {
    // Longer than a stop takes: nothing is sealed by itself.
    await using collector = await startCollector({ clickhouse, env: { ACK_MODE: 'received', SEAL_INTERVAL_MS: '1000' } });
    const first = await sendOne(collector.url);
    const { body, traceIds } = gatewayProtobuf({ spans: SPANS_PER_TRACE, seed: 9 });
    using inHand = await connectRaw(collector.url);
    inHand.write(`POST /v1/traces HTTP/1.1\r\nHost: collector\r\nContent-Length: ${body.length}\r\n\r\n`);
    await until(async () => (await collector.metrics()).get('hive_collector_requests_in_hand') === 1, 'the request is in hand');
    const last = await sendOne(collector.url);
    collector.signal('SIGTERM');
    await until(async () => (await collector.ready()) === 503, 'the collector shuts down');
    inHand.write(body.toString('latin1'));

    expect(await inHand.nextAnswer()).toMatch(/^HTTP\/1\.1 200 /);
    expect(await collector.exited).toMatchObject({ code: 0, signal: null });
    await expectStoredAsAnswered(clickhouse, [first, last, { traceIds, outcome: 200, retryAfter: undefined, sentAtMs: performance.now() }]);
  });

  test('a stop under load stores what was taken', async () => {
    await using collector = await startCollector({ clickhouse, env: { ACK_MODE: 'received', SEAL_INTERVAL_MS: '1000' } });
    const load = startLoad(collector.url);
    await untilMoreAcknowledged(load, 300);
    expect(await collector.stop()).toMatchObject({ code: 0 });
    await expectStoredAsAnswered(clickhouse, await load.stop());
  });
});

describe('memory', () => {
  /** Bounded for all targets together; what one of them may have is tested in fairness.test.ts. */
  const SMALL_MEMORY = { MEM_BUFFER_SIZE_MB: '8', TARGET_MAX_MEMORY_PERCENT: '100' };
  /** What the program needs to run, twice over, and nothing that grows with what is sent. */
  const MAX_RSS_MB = 350;

  test('is bounded while ClickHouse hangs: beyond the bound requests are answered 503, and taken again afterwards', async () => {
    await using collector = await startCollector({ clickhouse, env: { ...SMALL_MEMORY, ACK_TIMEOUT_MS: '30000' } });
    const agent = new Agent({ keepAlive: true, maxSockets: 64 });
    clickhouse.pause();
    const answers = Array.from({ length: 400 }, () =>
      send(`${collector.url}/v1/traces`, incompressible(256), { agent, headers: PROTOBUF_TYPE }),
    );
    await until(async () => (await collector.ready()) === 503, 'the collector is not ready').finally(() =>
      setTimeout(() => clickhouse.resume(), 1_000),
    );
    const all = await Promise.all(answers);
    agent.destroy();

    const taken = all.filter(({ status }) => status === 200);
    const refused = all.filter(({ status }) => status === 503);
    expect(taken.length).toBeGreaterThan(10);
    expect(refused.length).toBe(all.length - taken.length);
    expect(refused.length).toBeGreaterThan(50);
    for (const answer of refused) {
      expect(answer.headers['retry-after']).toBe('2');
      expect(statusOf(answer).message).toContain('memory limit');
    }
    expect(peakRssMb(collector)).toBeLessThan(MAX_RSS_MB);
    await until(async () => (await collector.ready()) === 200, 'the collector is ready again');
    expect((await collector.send(incompressible(256))).status).toBe(200);
    expect((await collector.metrics()).get('hive_collector_memory_used_bytes')).toBe(0);
  });

  test('is bounded when small bodies inflate to large ones', async () => {
    await using collector = await startCollector({ clickhouse, env: SMALL_MEMORY });
    const bomb = gzipSync(Buffer.alloc(60 * 1024 ** 2, ' '));
    const answers = await Promise.all(Array.from({ length: 30 }, () => collector.send(bomb, { ...JSON_TYPE, 'content-encoding': 'gzip' })));

    for (const answer of answers) {
      expect(answer.status).toBe(503);
      expect(statusOf(answer).message).toContain('memory limit');
    }
    expect(peakRssMb(collector)).toBeLessThan(MAX_RSS_MB);
    expect((await collector.metrics()).get('hive_collector_memory_used_bytes')).toBe(0);
  });
});

test('a large request is stored whole by a worker thread, while others are answered meanwhile', async () => {
  await using collector = await startCollector({ clickhouse });
  const { body, traceIds } = hiveGatewayBatch({ spans: 3_500 * SPANS_PER_TRACE, seed: 1 });
  expect(body.length).toBeGreaterThan(20e6);
  const large: Answer[] = [];
  const answered = collector.send(body, JSON_TYPE).then((answer) => large.push(answer));

  const latencies: number[] = [];
  const small = [];
  while (large.length === 0) {
    const startMs = performance.now();
    const [one, health] = await Promise.all([sendOne(collector.url), send(`${collector.adminUrl}/health`, '', { method: 'GET' })]);
    latencies.push(performance.now() - startMs);
    expect(health.status).toBe(200);
    small.push(one);
  }
  await answered;

  expect(large[0].status).toBe(200);
  await expectStoredAsAnswered(clickhouse, [{ traceIds, outcome: 200, retryAfter: undefined, sentAtMs: performance.now() }, ...small]);
  expect(outcomes(small)).toEqual({ 200: small.length });
  expect(small.length).toBeGreaterThan(3);
  expect(Math.max(...latencies)).toBeLessThan(2_000);
});

describe('when the auth endpoint', () => {
  test.each([
    ['is slow', () => {}],
    ['hangs up', hangUp],
    ['fails', raw(500, 'Internal Server Error')],
    ['is overloaded', raw(503, '')],
    ['answers garbage', raw(200, '<html>')],
    ['names no target', json(200, { target: 'other' })],
    ['sends elsewhere', raw(302, '', { location: 'http://127.0.0.1:1/' })],
  ] as const)('%s, known senders go on, unknown ones are asked to come back, and all is well afterwards', async (_, outage) => {
    await using hive = await startHive(accept);
    await using collector = await startCollector({
      clickhouse,
      env: { DISABLE_AUTH: 'false', HIVE_OTEL_AUTH_ENDPOINT: hive.url, AUTH_CACHE_TTL_MS: '100', AUTH_TIMEOUT_MS: '200' },
    });
    const ask = (token: string) => sendOne(collector.url, undefined, 1, { authorization: `Bearer ${token}` });
    const sent = [await ask('known')];
    hive.answer = outage;
    const askedBefore = hive.asked.length;
    // Until its next check has failed, and once more.
    await until(async () => sent.push(await ask('known')) > 0 && hive.asked.length > askedBefore, 'the token is checked again');
    const [unknown, ...known] = await Promise.all([ask('unknown'), ...Array.from({ length: 10 }, () => ask('known'))]);
    sent.push(...known);

    expect(outcomes(sent)).toEqual({ 200: sent.length });
    expect(unknown).toMatchObject({ outcome: 503, retryAfter: '2' });
    expect(await collector.ready()).toBe(200);

    hive.answer = accept;
    sent.push(await ask('unknown'));
    expect(sent.at(-1)).toMatchObject({ outcome: 200 });
    await expectStoredAsAnswered(clickhouse, [...sent, unknown]);
  });
});

async function untilMoreAcknowledged(load: ReturnType<typeof startLoad>, requests: number): Promise<void> {
  const goal = load.acknowledged() + requests;
  await until(() => load.acknowledged() >= goal, `${requests} more requests are answered 200`);
}

/** The most memory the process has ever had, in MB. */
function peakRssMb({ pid }: Collector): number {
  const [, kb] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
  return Number(kb) / 1024;
}
