import { Agent } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { expectStoredAsAnswered, outcomes, type Sent, sendOne, SPANS_PER_TRACE } from '../support/clients/load.ts';
import { type Answer, PROTOBUF_TYPE, send, statusOf } from '../support/clients/otlp-client.ts';
import { connectRaw } from '../support/clients/raw-socket.ts';
import { incompressible } from '../support/generators/incompressible.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';

/* What happens when there is more than there is room for: who is refused, with what, and who gets in all the same. */

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());
beforeEach(() => clickhouse.command('DROP TABLE IF EXISTS otel_traces SYNC'));

const MEM_BUFFER_SIZE_MB = '8';
/** Longer than any of these tests lets ClickHouse hang. */
const ACK_TIMEOUT_MS = '60000';

const from = (target: string) => ({ 'x-hive-target-ref': target });

describe('while ClickHouse hangs and the memory fills', () => {
  test('requests of all targets are answered 503 unread from the high mark on, and /ready says so until the low mark', async () => {
    await using collector = await startCollector({ clickhouse, env: { MEM_BUFFER_SIZE_MB, ACK_TIMEOUT_MS } });
    clickhouse.pause();
    // So many that each stays within its share.
    const { answers } = flood(collector, 60, (index) => `target-${index}`);
    await until(async () => (await collector.ready()) === 503, 'the collector is not ready').finally(() =>
      setTimeout(() => clickhouse.resume(), 500),
    );
    using unread = await connectRaw(collector.url);
    unread.write('POST /v1/traces HTTP/1.1\r\nHost: collector\r\nX-Hive-Target-Ref: newcomer\r\nContent-Length: 1000000\r\n\r\n');
    expect(await unread.nextAnswer()).toMatch(/^HTTP\/1\.1 503 [^]*^retry-after: 2$/im);

    const statuses = (await Promise.all(answers)).map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set([200, 503]));
    await until(async () => (await collector.ready()) === 200, 'the collector is ready again');
    expect(await refusals(collector)).toMatchObject({ target_memory: 0, target_rate: 0, storage: 0, shutdown: 0 });
    expect((await refusals(collector)).memory).toBeGreaterThan(0);
    await expectNothingInFlight(collector);
  });

  test.each([
    ['durable', 'is stopped at its share, and others get in and are stored'],
    ['received', 'is stopped at its share, and others get in at once'],
  ])('with ACK_MODE=%s, a target that floods %s', async (ackMode) => {
    await using collector = await startCollector({ clickhouse, env: { MEM_BUFFER_SIZE_MB, ACK_TIMEOUT_MS, ACK_MODE: ackMode } });
    await until(() => clickhouse.hasTable('otel_traces'), 'the table is there');
    clickhouse.pause();
    const flooding = flood(collector, 200, () => 'flooder');
    await until(async () => (await refusals(collector)).target_memory > 50, 'the flooder is refused').catch((error: unknown) => {
      clickhouse.resume();
      throw error;
    });
    const small = Array.from({ length: 20 }, (_, index) => sendOne(collector.url, undefined, 1, from(`small-${index % 4}`)));
    await until(async () => (await collector.metrics()).get('hive_collector_targets')! >= 5, 'the small ones are in hand');
    expect(await collector.ready()).toBe(200);
    clickhouse.resume();

    const sent = await Promise.all(small);
    expect(outcomes(sent)).toEqual({ 200: 20 });
    const refused = (await Promise.all(flooding.answers)).filter(({ status }) => status !== 200);
    expect(refused.length).toBeGreaterThan(50);
    for (const answer of refused) {
      expect(answer).toMatchObject({ status: 429, headers: { 'retry-after': '2' } });
      expect(statusOf(answer)).toEqual({ code: 8, message: expect.stringContaining('TARGET_MAX_MEMORY_PERCENT') });
    }
    await until(async () => (await rows(sent)) === 20 * SPANS_PER_TRACE, 'their spans are stored');
    await expectStoredAsAnswered(clickhouse, sent);
    await expectNothingInFlight(collector);
  });

  test('a target that is alone may hold most of it, and all of it if so configured', async () => {
    for (const [percent, least, most] of [
      [80, 0.6, 0.75],
      [20, 0.1, 0.2],
      [100, 0.9, 1],
    ]) {
      await using collector = await startCollector({
        clickhouse,
        env: { MEM_BUFFER_SIZE_MB, ACK_TIMEOUT_MS, TARGET_MAX_MEMORY_PERCENT: String(percent) },
      });
      clickhouse.pause();
      const { answers } = flood(collector, 200, () => 'only');
      try {
        await until(async () => {
          const refused = Object.values(await refusals(collector)).reduce((sum, count) => sum + count);
          const waiting = (await collector.metrics()).get('hive_collector_requests_in_hand')!;
          return refused + waiting === 200;
        }, 'each is refused or waits');
        // While a body becomes a block, it is counted twice for a moment.
        await until(async () => (await fillOf(collector)) <= most, `at ${percent} %, it holds at most ${most}`);
        expect(await fillOf(collector), `${percent} %`).toBeGreaterThan(least);
      } finally {
        clickhouse.resume();
      }
      const statuses = new Set((await Promise.all(answers)).map(({ status }) => status));
      expect(statuses).toEqual(new Set([200, percent === 100 ? 503 : 429]));
    }
  });
});

test('a target that sends more than ClickHouse takes in time is refused while memory is plenty, and others are not', async () => {
  await using collector = await startCollector({ clickhouse, env: { MEM_BUFFER_SIZE_MB: '64', ACK_TIMEOUT_MS: '6000' } });
  clickhouse.pause();
  const flooding: Promise<Answer>[] = [];
  try {
    await until(async () => {
      flooding.push(...flood(collector, 4, () => 'flooder').answers);
      // At a rate that the machine's speed does not set: a faster flood holds more by the time at which it is refused.
      await delay(20);
      return (await refusals(collector)).target_memory > 10;
    }, 'the flooder is refused');
    expect((await collector.metrics()).get('hive_collector_memory_used_bytes')).toBeLessThan(40 * 1024 ** 2);
  } catch (error) {
    clickhouse.resume();
    throw error;
  }
  const small = sendOne(collector.url, undefined, 1, from('small'));
  setTimeout(() => clickhouse.resume(), 200);

  expect((await small).outcome).toBe(200);
  const statuses = new Set((await Promise.all(flooding)).map(({ status }) => status));
  expect(statuses).toContain(429);
  await expectNothingInFlight(collector);
});

test('bodies that trickle in hold no more than the share of their target', async () => {
  await using collector = await startCollector({ clickhouse, env: { MEM_BUFFER_SIZE_MB } });
  const sockets = await Promise.all(Array.from({ length: 40 }, () => connectRaw(collector.url)));
  for (const socket of sockets) {
    socket.write('POST /v1/traces HTTP/1.1\r\nHost: collector\r\nX-Hive-Target-Ref: flooder\r\nTransfer-Encoding: chunked\r\n\r\n');
    socket.write(`80000\r\n${' '.repeat(0x80000)}\r\n`);
  }
  await until(async () => (await refusals(collector)).target_memory > 20, 'the flooder is refused');

  expect((await sendOne(collector.url, undefined, 1, from('small'))).outcome).toBe(200);
  expect((await collector.metrics()).get('hive_collector_memory_used_bytes')).toBeLessThan(0.75 * Number(MEM_BUFFER_SIZE_MB) * 1024 ** 2);
  for (const socket of sockets) socket[Symbol.dispose]();
  await expectNothingInFlight(collector);
});

test('a large request gets through a memory in which it takes more than a share', async () => {
  await using collector = await startCollector({ clickhouse, env: { MEM_BUFFER_SIZE_MB } });
  expect((await collector.send(incompressible(7 * 1024))).status).toBe(200);
});

test('large requests of several targets take turns', async () => {
  // Answered as soon as they are parsed: inserts would join those of several requests.
  await using collector = await startCollector({
    clickhouse,
    env: { TRANSCODER_THREADS: '1', TRANSCODE_INLINE_KB: '1', ACK_MODE: 'received' },
  });
  const { body } = gatewayProtobuf({ spans: 20_000, seed: 1 });
  const done: string[] = [];
  using sockets = new DisposableStack();
  async function open(target: string, bytes: Uint8Array) {
    const socket = sockets.use(await connectRaw(collector.url));
    socket.write(
      `POST /v1/traces HTTP/1.1\r\nHost: collector\r\nX-Hive-Target-Ref: ${target}\r\n` +
        `Content-Type: application/x-protobuf\r\nContent-Length: ${bytes.length}\r\n\r\n`,
    );
    socket.write(bytes.subarray(0, -1));
    return async () => {
      socket.write(bytes.subarray(-1));
      done.push(`${target} ${(await socket.nextAnswer()).slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length)}`);
    };
  }
  const flooder = await Promise.all(Array.from({ length: 12 }, () => open('flooder', body)));
  const small = await open('small', gatewayProtobuf({ spans: 30, seed: 2 }).body);
  await until(
    async () => (await collector.metrics()).get('hive_collector_memory_used_bytes')! >= 12 * (body.length - 1),
    'all but the last byte of each is there',
  );
  await Promise.all([...flooder, small].map((finish) => finish()));

  // One is at work when it comes, and it is the flooder's turn once more.
  expect(done.indexOf('small 200')).toBeLessThan(4);
  expect(done.toSorted()).toEqual([...Array.from({ length: 12 }, () => 'flooder 200'), 'small 200']);
});

describe('with TARGET_MAX_SPANS_PER_SECOND', () => {
  const env = { TARGET_MAX_SPANS_PER_SECOND: '100' };

  test('a target over its rate is answered 429 until the time it is told, and others are not', async () => {
    await using collector = await startCollector({ clickhouse, env });
    const burst = gatewayProtobuf({ spans: 700, seed: 1 }).body;
    expect((await collector.send(burst, from('busy'))).status).toBe(200);

    const refused = await collector.send(burst, from('busy'));
    expect(refused.status).toBe(429);
    expect(statusOf(refused)).toEqual({ code: 8, message: expect.stringContaining('TARGET_MAX_SPANS_PER_SECOND') });
    // 700 spans are 7 s' worth, 5 of which may come at once.
    expect(refused.headers['retry-after']).toBe('2');
    expect((await collector.send(burst, from('other'))).status).toBe(200);

    await delay(Number(refused.headers['retry-after']) * 1000);
    expect((await collector.send(burst, from('busy'))).status).toBe(200);
    expect((await refusals(collector)).target_rate).toBe(1);
  });

  test('spans that are refused for another reason are not counted', async () => {
    await using collector = await startCollector({ clickhouse, env: { ...env, ACK_TIMEOUT_MS: '200' } });
    clickhouse.pause();
    const burst = gatewayProtobuf({ spans: 700, seed: 3 }).body;
    const inVain = await collector.send(burst, from('busy')).finally(() => clickhouse.resume());
    expect(inVain.status).toBe(503);
    await until(async () => (await collector.send(burst, from('busy'))).status === 200, 'it is taken');
    expect((await refusals(collector)).target_rate).toBe(0);
  });
});

test('ten thousand targets leave nothing behind', { timeout: 180_000 }, async () => {
  await using collector = await startCollector({ clickhouse, env: { TARGET_MAX_SPANS_PER_SECOND: '1000' } });
  const agent = new Agent({ keepAlive: true, maxSockets: 50 });
  const { body } = gatewayProtobuf({ spans: 1, seed: 1 });
  const answers = await Promise.all(
    Array.from({ length: 10_000 }, (_, index) => send(`${collector.url}/v1/traces`, body, { agent, headers: from(`target-${index}`) })),
  );
  agent.destroy();

  expect(answers.every(({ status }) => status === 200)).toBe(true);
  await until(async () => (await collector.metrics()).get('hive_collector_targets') === 0, 'they are forgotten');
});

/** Requests that stay as large when they are compressed, all at once. */
function flood(collector: Collector, requests: number, target: (index: number) => string): { answers: Promise<Answer>[] } {
  const agent = new Agent({ keepAlive: true, maxSockets: 100 });
  const answers = Array.from({ length: requests }, (_, index) =>
    send(`${collector.url}/v1/traces`, incompressible(256), { agent, headers: { ...PROTOBUF_TYPE, ...from(target(index)) } }),
  );
  void Promise.all(answers).finally(() => agent.destroy());
  return { answers };
}

/** The part of the memory limit that is used, from 0 to 1. */
async function fillOf(collector: Collector): Promise<number> {
  const metrics = await collector.metrics();
  return metrics.get('hive_collector_memory_used_bytes')! / metrics.get('hive_collector_memory_limit_bytes')!;
}

async function refusals(collector: Collector): Promise<Record<string, number>> {
  const { body } = await send(`${collector.adminUrl}/metrics`, '', { method: 'GET' });
  const lines = body.toString().matchAll(/^hive_collector_backpressure_requests_total\{reason="(\w+)"\} (\d+)$/gm);
  return Object.fromEntries(Array.from(lines, ([, reason, count]) => [reason, Number(count)]));
}

async function rows(sent: readonly Sent[]): Promise<number> {
  const traceIds = sent.flatMap((one) => one.traceIds).map((id) => `'${id}'`);
  const [{ count }] = await clickhouse.query<{ count: string }>(
    `SELECT count() AS count FROM otel_traces WHERE TraceId IN (${traceIds.join(', ')})`,
  );
  return Number(count);
}

async function expectNothingInFlight(collector: Collector): Promise<void> {
  await until(async () => {
    const metrics = await collector.metrics();
    return ['hive_collector_requests_in_hand', 'hive_collector_memory_used_bytes', 'hive_collector_targets'].every(
      (name) => metrics.get(name) === 0,
    );
  }, 'nothing is in flight');
}
