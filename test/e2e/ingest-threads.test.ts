import { mkdtempSync, rmSync } from 'node:fs';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isOff } from '../../src/runtime/internals.ts';
import { accept, after, json, startHive } from '../integration/auth-hive.ts';
import { frame, grpcClient, rawCall } from '../support/clients/grpc-client.ts';
import { type InspectedThread, type Inspector, inspect } from '../support/clients/inspector.ts';
import { callOne, expectStoredAsAnswered, type Load, nextRequest, outcomes, type Sent, startLoad } from '../support/clients/load.ts';
import { type Answer, JSON_TYPE, send } from '../support/clients/otlp-client.ts';
import { compareAnswers } from '../support/clients/plain-requests.ts';
import { accountsOf, expectBalance } from '../support/oracle/span-accounts.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, runProgram, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

const THREADS = 3;

/** What ends a thread, as JavaScript that runs in it. */
const ENDS = {
  'an error that nobody catches': 'setTimeout(() => { throw new Error("ended by the test"); })',
  'a rejection that nobody handles': 'void Promise.reject(new Error("ended by the test"))',
  'a heap that is full': 'globalThis.kept = []; setTimeout(() => { for (;;) kept.push(new Array(100_000).fill(0.5)); })',
};

/** Keeps a thread busy for nine tenths of the time. */
const BUSY = 'globalThis.busy = setInterval(() => { const end = performance.now() + 45; while (performance.now() < end); }, 50)';
const IDLE = 'clearInterval(globalThis.busy)';
/** What new connections are told while threads are on standby. */
const NEW_CONNECTIONS = isOff('port-steering') ? ['close', 'keep-alive'] : ['keep-alive'];
const IS_CONNECTED = 'process.getActiveResourcesInfo().includes("TCPSocketWrap")';
/** For a thread to be busy for some seconds, and for another to start, on a machine with little time. */
const GROWTH_MS = 60_000;

/** So many connections that each thread gets some: with 8, one of three threads gets none in 4 % of the runs. */
const SENDERS = 24;

let clickhouse: TestClickHouse;

beforeAll(async () => {
  clickhouse = await startClickHouse();
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

/** A collector whose threads the test can end. */
async function startInspected(env: Readonly<Record<string, string>> = {}): Promise<{ collector: Collector; inspector: Inspector }> {
  const [port] = await freePorts(1);
  const options = `--inspect=127.0.0.1:${port} --max-old-space-size=150`;
  const collector = await startCollector({ clickhouse, env: { INGEST_THREADS: String(THREADS), NODE_OPTIONS: options, ...env } });
  return { collector, inspector: await inspect(port) };
}

/** Ends one thread, and waits until it is replaced. */
async function endThread(collector: Collector, inspector: Inspector, expression: string): Promise<void> {
  const deaths = await value(collector, 'hive_collector_ingest_thread_deaths_total');
  const threads = inspector.threads.filter(({ title }) => title.includes('ingest-'));
  threads[Math.floor(Math.random() * threads.length)].run(expression);
  await until(async () => (await value(collector, 'hive_collector_ingest_thread_deaths_total')) > deaths, 'the thread has ended');
  await until(async () => (await value(collector, 'hive_collector_ingest_threads')) === THREADS, 'it is replaced');
}

async function value(collector: Collector, name: string): Promise<number> {
  return (await collector.metrics()).get(name) ?? Number.NaN;
}

async function health(collector: Collector): Promise<{ state: string; reason?: string; serving: number; most: number; deaths: number }> {
  const { body } = await send(`${collector.adminUrl}/health`, '', { method: 'GET' });
  return (JSON.parse(body.toString()) as { details: { collector: { ingestThreads: Awaited<ReturnType<typeof health>> } } }).details
    .collector.ingestThreads;
}

for (const diskBuffer of [true, false]) {
  const mode = diskBuffer ? 'with the disk buffer' : 'in memory';
  test(
    `threads that end under load cost their own requests only: nothing acknowledged is lost, nothing is stored twice, ${mode}`,
    { timeout: 180_000 },
    async () => {
      const dir = mkdtempSync(join(tmpdir(), 'threads-'));
      const { collector, inspector } = await startInspected({ ENABLE_DISK_BUFFER: String(diskBuffer), DISK_BUFFER_DIR: dir });
      try {
        const load = startLoad(collector.url, { senders: SENDERS, pauseMs: 2 });
        for (const expression of Object.values(ENDS)) {
          const before = load.acknowledged();
          await until(() => load.acknowledged() > before + 50, 'requests are acknowledged');
          await endThread(collector, inspector, expression);
        }
        const before = load.acknowledged();
        await until(() => load.acknowledged() > before + 50, 'requests are acknowledged after that');
        const sent = await load.stop();

        // A thread that ends closes its connections; nobody is told anything wrong.
        const { 200: acknowledged, ...others } = outcomes(sent);
        expect(acknowledged).toBeGreaterThan(200);
        expect(Object.keys(others).filter((outcome) => !['ECONNRESET', 'EPIPE', 'ECONNREFUSED', '503'].includes(outcome))).toEqual([]);
        await allInserted(collector);
        await expectStoredAsAnswered(clickhouse, sent);

        // What the threads had in hand is given back, and their counts are kept.
        const metrics = await collector.metrics();
        expect(metrics.get('hive_collector_requests_in_hand')).toBe(0);
        expect(metrics.get('hive_collector_memory_used_bytes')).toBe(0);
        expectBalance(accountsOf(metrics));
        expect(accountsOf(metrics).accepted).toBeGreaterThanOrEqual(acknowledged * 14);
        expect(await health(collector)).toMatchObject({ state: 'failing', serving: THREADS, deaths: 3, reason: /3 threads have ended/ });
        expect(collector.output()).toContain('An ingest thread has ended, and is started again');
        expect(collector.output()).toContain('ended by the test');
        // A process does not end while a debugger is connected.
        inspector[Symbol.dispose]();
        expect((await collector.stop()).code).toBe(0);
      } finally {
        inspector[Symbol.dispose]();
        await collector.kill();
        rmSync(dir, { recursive: true, force: true });
      }
    },
  );
}

/** How many threads may serve, who does at first, and who does when these are busy. */
const GROWTHS = [
  { least: 1, most: 2, first: ['main'], next: ['ingest-1', 'ingest-2'] },
  { least: 2, most: 3, first: ['ingest-1', 'ingest-2'], next: ['ingest-3'] },
] as const;
type Growth = (typeof GROWTHS)[number];

/** A collector in which one more thread may serve. */
async function startGrowing({ least, most }: Growth): Promise<{ collector: Collector; inspector: Inspector; grpcPort: number }> {
  const [grpcPort] = await freePorts(1);
  const env = { GRPC_PORT: String(grpcPort), REQUEST_TIMEOUT_MS: String(GROWTH_MS) };
  return { ...(await startInspected({ ...env, INGEST_THREADS: String(most), INGEST_THREADS_MIN: String(least) })), grpcPort };
}

async function runIn(inspector: Inspector, names: readonly string[], expression: string): Promise<void> {
  for (const name of names) (await threadOf(inspector, name)).run(expression);
}

async function threadOf(inspector: Inspector, name: string): Promise<InspectedThread> {
  const find = () => inspector.threads.find(({ title }) => title.includes(name));
  await until(() => find() !== undefined, `${name} runs`);
  return find()!;
}

/** Waits until each of these threads has connections. */
async function untilConnected(inspector: Inspector, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const thread = await threadOf(inspector, name);
    await until(async () => (await thread.valueOf(IS_CONNECTED)) === true, `${name} has connections`, GROWTH_MS);
  }
}

/** Sends a request without spans. */
async function sendEmpty(url: string, agent: Agent): Promise<Answer> {
  const answer = await send(url, '{}', { agent, headers: { ...JSON_TYPE, 'x-hive-target-ref': 'target-1' } });
  expect(answer.status).toBe(200);
  return answer;
}

/** Sends requests over one connection until an answer closes it. */
async function sendUntilClosed(url: string): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (;;) {
    const { headers } = await sendEmpty(url, agent);
    if (headers.connection === 'close') return;
    await delay(20);
  }
}

async function allInserted(collector: Collector): Promise<void> {
  await until(async () => (await value(collector, 'hive_collector_queue_spans')) === 0, 'all is inserted');
  await until(async () => (await value(collector, 'hive_collector_inserts_under_way')) === 0, 'all inserts are done');
}

for (const growth of GROWTHS) {
  const { least, most, first, next } = growth;
  const last = next.at(-1)!;
  const which = `${first.join(' and ')}, then ${next.join(' and ')}`;

  test(
    `${which}: when all are busy, others start and get a share of the connections, and no request fails; so it is after an end`,
    { timeout: 5 * GROWTH_MS },
    async () => {
      const { collector, inspector, grpcPort } = await startGrowing(growth);
      using grpc = grpcClient(grpcPort);
      using openCall = rawCall(grpcPort, { 'x-hive-target-ref': 'target-1' });
      let load: Load | undefined;
      try {
        load = startLoad(collector.url, { senders: SENDERS, pauseMs: 2 });
        const calls: Sent[] = [];
        const message = nextRequest(1, false);
        const bytes = frame(message.body);
        openCall.write(bytes.subarray(0, 100));
        await until(() => load!.acknowledged() > 50, 'requests are acknowledged');
        expect(await health(collector)).toMatchObject({ state: 'ok', serving: least, most });

        // Read by both parsers.
        const closed = Promise.all(['/v1/traces', '/v1/traces?a=b'].map((path) => sendUntilClosed(collector.url + path)));
        closed.catch(() => {});
        await runIn(inspector, first, BUSY);
        const isGrown = async () => (await value(collector, 'hive_collector_ingest_threads')) === most;
        await until(async () => calls.push(await callOne(grpc)) > 0 && (await isGrown()), 'all threads serve', GROWTH_MS);
        await untilConnected(inspector, next);
        await closed;
        await openCall.goAway;
        openCall.end(bytes.subarray(100));
        expect(await openCall.answer).toMatchObject({ 'grpc-status': '0' });
        const before = load.acknowledged();
        await until(() => load!.acknowledged() > before + 50, 'requests are acknowledged after that');
        calls.push(await callOne(grpc));
        const sent = [...(await load.stop()), ...calls];

        expect(Object.keys(outcomes(sent))).toEqual(['200']);
        await allInserted(collector);
        await expectStoredAsAnswered(clickhouse, [...sent, { ...sent[0], traceIds: message.traceIds }]);
        expect(await health(collector)).toMatchObject({ state: 'ok', serving: most, deaths: 0 });
        expect(collector.output()).toContain('All threads are busy: ingest threads start');

        load = startLoad(collector.url, { senders: SENDERS, pauseMs: 2 });
        await runIn(inspector, [last], ENDS['an error that nobody catches']);
        await until(async () => (await value(collector, 'hive_collector_ingest_thread_deaths_total')) === 1, 'the thread has ended');
        await until(isGrown, 'it is replaced', GROWTH_MS);
        await untilConnected(inspector, [last]);
        const sentAfter = await load.stop();
        await allInserted(collector);
        await expectStoredAsAnswered(clickhouse, sentAfter);
      } finally {
        await load?.stop();
        inspector[Symbol.dispose]();
        await collector.kill();
      }
    },
  );

  test(
    `${which}: those that are not needed go on standby: connections leave them, none is reset; they serve again when all are busy`,
    { timeout: 6 * GROWTH_MS },
    async () => {
      const { collector, inspector, grpcPort } = await startGrowing(growth);
      let load = startLoad(collector.url, { senders: SENDERS, pauseMs: 15 });
      const calls: Sent[] = [];
      const serving = async () => (await health(collector)).serving;
      try {
        await runIn(inspector, first, BUSY);
        await until(async () => (await serving()) === most, 'all threads serve', GROWTH_MS);
        await untilConnected(inspector, next);
        await runIn(inspector, first, IDLE);
        const sent = [...(await load.stop())];

        load = startLoad(collector.url, { senders: SENDERS, pauseMs: 1_000 });
        const clients = Array.from({ length: 8 }, () => grpcClient(grpcPort));
        const callAll = async () => calls.push(...(await Promise.all(clients.map((client) => callOne(client)))));
        await callAll();
        await until(async () => (await serving()) === least, 'threads are on standby', GROWTH_MS);
        const onStandby = await Promise.all(next.map((name) => threadOf(inspector, name)));
        const areLeft = async () => {
          await callAll();
          return (await Promise.all(onStandby.map((thread) => thread.valueOf(IS_CONNECTED)))).every((connected) => connected === false);
        };
        await until(areLeft, 'they have no connections', GROWTH_MS);

        // The kernel assigns no new connections to them. Where it can't be told, these end with their first answer, or their first call.
        const agent = new Agent({ keepAlive: true });
        const answers = await Promise.all(Array.from({ length: 40 }, () => sendEmpty(`${collector.url}/v1/traces`, agent)));
        agent.destroy();
        expect(new Set(answers.map(({ headers }) => headers.connection))).toEqual(new Set(NEW_CONNECTIONS));
        clients.push(...Array.from({ length: 20 }, () => grpcClient(grpcPort)));
        await until(areLeft, 'they have no connections', GROWTH_MS);
        expect(await health(collector)).toMatchObject({ state: 'ok', serving: least, deaths: 0 });

        await runIn(inspector, first, BUSY);
        await until(async () => (await callAll()) > 0 && (await serving()) === most, 'they serve again', GROWTH_MS);
        await untilConnected(inspector, next);
        await callAll();
        sent.push(...(await load.stop()), ...calls);
        for (const client of clients) client[Symbol.dispose]();
        expect(Object.keys(outcomes(sent))).toEqual(['200']);
        await allInserted(collector);
        await expectStoredAsAnswered(clickhouse, sent);
      } finally {
        await load.stop();
        inspector[Symbol.dispose]();
        await collector.kill();
      }
    },
  );

  test(`${which}: a shutdown while threads start is like any other`, { timeout: 3 * GROWTH_MS }, async () => {
    const { collector, inspector } = await startGrowing(growth);
    const load = startLoad(collector.url, { senders: 8, pauseMs: 2 });
    try {
      await runIn(inspector, first, BUSY);
      await until(() => collector.output().includes('ingest threads start'), 'other threads start', GROWTH_MS);
      inspector[Symbol.dispose]();
      const { code, output } = await collector.stop();
      const sent = await load.stop();
      expect(code).toBe(0);
      expect(output).not.toMatch(/"level":(50|60)|has ended/);
      await expectStoredAsAnswered(clickhouse, sent);
    } finally {
      await load.stop();
      inspector[Symbol.dispose]();
      await collector.kill();
    }
  });
}

test('connections, requests and memory are those of all threads', async () => {
  await using collector = await startCollector({ clickhouse, env: { INGEST_THREADS: String(THREADS), MAX_CONNECTIONS: '20' } });
  const load = startLoad(collector.url, { senders: 60, pauseMs: 1, retryMs: 5 });
  await until(async () => (await value(collector, 'hive_collector_dropped_connections_total')) > 20, 'connections are dropped');
  const connections: number[] = [];
  for (let sample = 0; sample < 20; sample++) {
    connections.push(await value(collector, 'hive_collector_connections'));
    await delay(20);
  }
  await load.stop();
  // Threads that accept a connection at the same moment may both see the last free place.
  expect(Math.max(...connections)).toBeGreaterThan(10);
  expect(Math.max(...connections)).toBeLessThanOrEqual(20 + THREADS - 1);
  await until(async () => (await value(collector, 'hive_collector_connections')) === 0, 'no connection is left');
});

test('a second collector does not share the port', async () => {
  await using collector = await startCollector({ clickhouse, env: { INGEST_THREADS: String(THREADS) } });
  const { port } = new URL(collector.url);
  const [healthPort, healthcheckPort] = await freePorts(2);
  const { code, output } = await runProgram([], {
    HOST: '127.0.0.1',
    PORT: port,
    HEALTH_PORT: String(healthPort),
    HEALTHCHECK_PORT: String(healthcheckPort),
    INGEST_THREADS: String(THREADS),
    DISABLE_AUTH: 'true',
    CLICKHOUSE_URL: clickhouse.url,
  });
  expect(code).toBe(1);
  expect(output).toContain(`Port ${port} on 127.0.0.1 is in use by another program.`);
});

test('a profile shows all threads by name, and so does the CPU time in /metrics', async () => {
  await using collector = await startCollector({ clickhouse, env: { INGEST_THREADS: String(THREADS) } });
  const load = startLoad(collector.url, { senders: SENDERS });
  const { body } = await send(`${collector.adminUrl}/debug/pprof/flamegraph?seconds=2`, '', { method: 'GET' });
  await load.stop();
  for (const thread of ['main', 'ingest-1', 'ingest-2', 'ingest-3']) {
    expect(body.toString()).toContain(thread);
    expect(await value(collector, `hive_collector_thread_cpu_seconds_total{thread="${thread}"}`)).toBeGreaterThan(0);
  }
});

test('random connections get the same answers from one thread and from several', async () => {
  const collectors = ['1', String(THREADS)].map((threads) => startCollector({ clickhouse, env: { INGEST_THREADS: threads } }));
  await using one = await collectors[0];
  await using several = await collectors[1];
  const [port, other] = [one, several].map(({ url }) => Number(new URL(url).port));
  const answers = await compareAnswers([port, other], Number(process.env.SEED ?? Date.now() % 1_000_000), 400, true);
  // Requests that can't be read, and others that are refused.
  expect(answers.filter((text) => text.includes('400 ')).length).toBeGreaterThan(20);
  expect(new Set(answers.join('').match(/HTTP\/1.1 \d+/g)).size).toBeGreaterThan(1);
});

test('a token is looked up once for all threads, and a refusal reaches all', async () => {
  await using hive = await startHive(after(300, accept));
  const env = { INGEST_THREADS: String(THREADS), DISABLE_AUTH: 'false', HIVE_OTEL_AUTH_ENDPOINT: hive.url, AUTH_CACHE_TTL_MS: '2000' };
  await using collector = await startCollector({ clickhouse, env });
  const sendAll = (token: string) =>
    Promise.all(
      Array.from({ length: 30 }, () =>
        send(`${collector.url}/v1/traces`, '{}', { headers: { ...JSON_TYPE, 'authorization': token, 'x-hive-target-ref': 'a/b/c' } }),
      ),
    );
  const statuses = async (token: string) => new Set((await sendAll(token)).map(({ status }) => status));

  expect(await statuses('Bearer one')).toEqual(new Set([200]));
  expect(await statuses('Bearer one')).toEqual(new Set([200]));
  expect(hive.asked).toHaveLength(1);
  expect(await value(collector, 'hive_collector_auth_lookups_total')).toBe(1);
  expect(await value(collector, 'hive_collector_auth_cache_hits_total')).toBe(30);

  hive.answer = json(403, { message: 'no more' });
  await until(async () => (await statuses('Bearer one')).has(403), 'the token is refused');
  await delay(250);
  expect(await statuses('Bearer one')).toEqual(new Set([403]));
});
