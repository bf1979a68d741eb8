import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createStatements } from '../../src/storage/table.ts';
import { type RingBatching, SPANS_PER_BLOCK, startRingBatching, stored, temporaryDir } from '../support/generators/ring-batching.ts';
import { type ClickHouseProxy, startProxy } from '../support/servers/clickhouse-proxy.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { until } from '../support/servers/collector.ts';

/* Two servers that know nothing of each other, each behind a proxy. */

let servers: [TestClickHouse, TestClickHouse];
let proxies: [ClickHouseProxy, ClickHouseProxy];
let ringDir = '';
let rings = 0;
const dir = temporaryDir();

beforeAll(async () => {
  servers = await Promise.all([startClickHouse({ systemLogs: false }), startClickHouse({ systemLogs: false })]);
  proxies = await Promise.all([startProxy(servers[0]), startProxy(servers[1])]);
});
afterAll(async () => {
  for (const one of [...proxies, ...servers]) await one[Symbol.asyncDispose]();
  dir.remove();
});
beforeEach(async () => {
  ringDir = `${dir.path}/${rings++}`;
  for (const server of servers) await server.command('DROP TABLE IF EXISTS otel_traces SYNC');
});
afterEach(() => {
  for (const proxy of proxies) proxy.restore();
});

function startOnBoth(env: Record<string, string> = {}): RingBatching {
  return startRingBatching(
    ringDir,
    proxies.map(({ url }) => url),
    env,
  );
}

async function bothUp({ storage }: RingBatching): Promise<void> {
  await until(() => storage.availability.all.every(({ availability }) => availability.isUp), 'both servers are up');
}

const rowsAt = async (server: TestClickHouse) => (await stored([server])).rows;

describe('of two servers', () => {
  test('the first takes the inserts, the second while the first is away, and the first again when it is back', async () => {
    await using batching = startOnBoth();
    await bothUp(batching);
    await batching.push(10);
    await batching.drained();
    expect(await rowsAt(servers[1])).toBe(0);

    await servers[0].kill();
    // What is sent as it goes down may have arrived, for all that is known, and waits for it.
    await batching.push(1);
    await until(() => !batching.storage.availability.all[0].availability.isUp, 'it is noticed');
    await batching.push(10);
    await until(async () => (await rowsAt(servers[1])) > 0, 'the second takes over');
    expect(batching.storage.availability.isUp).toBe(true);
    expect(batching.storage.describe()).toMatchObject({ state: 'up', servers: { [proxies[1].url]: { state: 'up' } } });

    await servers[0].restart();
    await bothUp(batching);
    await batching.drained();
    const atSecond = await rowsAt(servers[1]);
    await batching.push(10);
    await batching.drained();
    expect(await rowsAt(servers[1])).toBe(atSecond);
    expect(await stored(servers)).toEqual({ rows: 31 * SPANS_PER_BLOCK, spans: 31 * SPANS_PER_BLOCK });
  });

  test('one that lacks the table is passed over', async () => {
    await using batching = startOnBoth({ CLICKHOUSE_CREATE_SCHEMA: 'false' });
    await servers[1].command(createStatements('default', 'otel_traces')[1]);
    await batching.push(5);
    await batching.drained();
    expect(await rowsAt(servers[1])).toBe(5 * SPANS_PER_BLOCK);
  });

  test('an insert whose answer got lost waits for the server that may have it, while later ones go to the other', async () => {
    await using batching = startOnBoth();
    await bothUp(batching);
    await sendInVain(batching);
    await batching.push(10);
    await expect.poll(() => rowsAt(servers[1])).toBe(10 * SPANS_PER_BLOCK);
    expect(batching.ring.usedBytes).toBeGreaterThan(0);
    expect(batching.workers.pinnedSpans).toEqual({ [proxies[0].url]: 5 * SPANS_PER_BLOCK });

    proxies[0].restore();
    await batching.drained();
    expect(batching.workers.pinnedSpans).toEqual({});
    expect(await stored(servers)).toEqual({ rows: 15 * SPANS_PER_BLOCK, spans: 15 * SPANS_PER_BLOCK });
    expect(await rowsAt(servers[0])).toBe(5 * SPANS_PER_BLOCK);
  });

  test('one that answers probes and refuses inserts gets only those that it may have', async () => {
    await using batching = startOnBoth();
    await bothUp(batching);
    proxies[0].fail({ kind: 'parameters', text: 'max_memory_usage=1000&max_untracked_memory=0' });
    for (let turn = 0; turn < 12; turn++) {
      await batching.push(1);
      await until(() => batching.queue.waiting.blocks === 0 && batching.workers.busy === 0, 'it is inserted, or waits for the first');
      await delay(100);
    }
    // None at the moment in which it is sent there once more.
    expect(batching.workers.pinnedSpans[proxies[0].url] ?? 0).toBeLessThanOrEqual(2 * SPANS_PER_BLOCK);
    expect(await rowsAt(servers[1])).toBeGreaterThanOrEqual(10 * SPANS_PER_BLOCK);

    proxies[0].restore();
    await batching.drained();
    expect(await stored(servers)).toEqual({ rows: 12 * SPANS_PER_BLOCK, spans: 12 * SPANS_PER_BLOCK });
  });

  test('an insert goes to the server that may have it also after a crash', async () => {
    {
      await using crashed = startOnBoth();
      await bothUp(crashed);
      await sendInVain(crashed);
    }
    await using batching = startOnBoth();
    await until(() => batching.storage.availability.isUp, 'the second is there');
    await batching.push(10);
    await expect.poll(() => rowsAt(servers[1])).toBe(10 * SPANS_PER_BLOCK);

    proxies[0].restore();
    await batching.drained();
    expect(await stored(servers)).toEqual({ rows: 15 * SPANS_PER_BLOCK, spans: 15 * SPANS_PER_BLOCK });
  });

  test('one that is gone for good is left out of CLICKHOUSE_URL, and its inserts go to the other', async () => {
    {
      await using crashed = startOnBoth();
      await bothUp(crashed);
      await sendInVain(crashed);
    }
    await using batching = startRingBatching(ringDir, [proxies[1].url]);
    await batching.drained();
    expect(await rowsAt(servers[1])).toBe(5 * SPANS_PER_BLOCK);
  });

  test.each(['cut request', 'stall', 'hold answer'] as const)('%s at the first now and then: everything is stored once', async (kind) => {
    await using batching = startOnBoth();
    await bothUp(batching);
    for (let round = 0; round < 4; round++) {
      proxies[round % 2].fail({ kind });
      await batching.push(10);
      await until(() => batching.storage.stats.failedInserts > round || batching.queue.waiting.blocks === 0, 'something happens');
      proxies[round % 2].restore();
    }
    await batching.drained();
    expect(await stored(servers)).toEqual({ rows: 40 * SPANS_PER_BLOCK, spans: 40 * SPANS_PER_BLOCK });
  });
});

/** Five blocks go to the first server, which stores them and can't say so any more. */
async function sendInVain(batching: RingBatching): Promise<void> {
  proxies[0].fail({ kind: 'cut answer' });
  await batching.push(5);
  await until(() => batching.storage.stats.failedInserts > 0, 'its answer is lost');
  proxies[0].fail({ kind: 'cut request' }, 'all');
  await until(async () => (await rowsAt(servers[0])) > 0, 'it had arrived');
  // A probe may have come through in between: then the insert is sent once more before that is known.
  await until(() => !batching.storage.availability.all[0].availability.isUp && batching.workers.busy === 0, 'it waits for its server');
}

/** What a server that is no part of a real cluster can't say of itself: an answer for some queries. */
type Pretence = (query: string) => Forwarded | undefined;

/**
 * What the embedded server can't be: a replica, or a way to shards elsewhere. Two of these stand before one server, which
 * remembers tokens for both, as Keeper does, or the shards; only what is asked of the engine is answered differently.
 */
async function startReplica(server: TestClickHouse, pretence: Pretence = asReplica()) {
  let losesAnswers = false;
  const front = createServer((request, response) => {
    void request.toArray().then(async (pieces: Buffer[]) => {
      const body = Buffer.concat(pieces);
      const answer = pretence(body.toString('latin1')) ?? (await forward(server.url, request.url!, request.headers, body));
      if (losesAnswers) response.destroy();
      else response.writeHead(answer.status, answer.headers).end(answer.body);
    });
  });
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  return {
    url: `http://127.0.0.1:${(front.address() as AddressInfo).port}`,
    loseAnswers(loses: boolean) {
      losesAnswers = loses;
    },
    async [Symbol.asyncDispose]() {
      front.closeAllConnections();
      front.close();
      await once(front, 'close');
    },
  };
}

describe('replicas of one table', () => {
  test('an insert whose answer got lost is sent to another one, and stored once', async () => {
    await using first = await startReplica(servers[0]);
    await using second = await startReplica(servers[0]);
    await using batching = startRingBatching(ringDir, [first.url, second.url]);
    await bothUp(batching);
    expect(batching.storage.availability.all.map(({ deduplicationDomain }) => deduplicationDomain)).toEqual(
      Array(2).fill('replicated /clickhouse/tables/1/otel_traces 7 1700000000'),
    );

    first.loseAnswers(true);
    await batching.push(10);
    await batching.drained();
    expect(await stored([servers[0]])).toEqual({ rows: 10 * SPANS_PER_BLOCK, spans: 10 * SPANS_PER_BLOCK });
    expect(batching.storage.stats.failedInserts).toBeGreaterThan(0);
    expect(batching.storage.availability.all[0].availability.isUp).toBe(false);
  });

  test('those of another cluster remember for themselves, though the path in their Keeper is the same', async () => {
    await using first = await startReplica(servers[0], asReplica('7'));
    await using second = await startReplica(servers[1], asReplica('8'));
    await using batching = startRingBatching(ringDir, [first.url, second.url]);
    await bothUp(batching);
    first.loseAnswers(true);
    await batching.push(5);
    await until(() => !batching.storage.availability.all[0].availability.isUp && batching.workers.busy === 0, 'it waits for its cluster');
    await batching.push(10);
    await expect.poll(() => rowsAt(servers[1])).toBe(10 * SPANS_PER_BLOCK);
    first.loseAnswers(false);
    await batching.drained();
    expect(await stored(servers)).toEqual({ rows: 15 * SPANS_PER_BLOCK, spans: 15 * SPANS_PER_BLOCK });
  });

  test('an insert that they may have waits for one of them, also after a restart that finds only a server that is none', async () => {
    await using replica = await startReplica(servers[0]);
    const urls = [replica.url, proxies[1].url];
    {
      await using crashed = startRingBatching(ringDir, urls);
      await bothUp(crashed);
      replica.loseAnswers(true);
      await crashed.push(5);
      await until(() => !crashed.storage.availability.all[0].availability.isUp && crashed.workers.busy === 0, 'it waits for its server');
    }
    await using batching = startRingBatching(ringDir, urls);
    await until(() => batching.storage.availability.isUp, 'the other is there');
    await batching.push(10);
    await until(async () => (await rowsAt(servers[1])) === 10 * SPANS_PER_BLOCK, 'new ones are stored there');
    replica.loseAnswers(false);
    await batching.drained();
    expect(await stored(servers)).toEqual({ rows: 15 * SPANS_PER_BLOCK, spans: 15 * SPANS_PER_BLOCK });
  });
});

describe('ways to the shards of one cluster', () => {
  test('an insert whose answer got lost goes another way, and is stored once', async () => {
    await using first = await startReplica(servers[0], asWayToShards('10.0.0.2'));
    await using second = await startReplica(servers[0], asWayToShards('10.0.0.2'));
    await using batching = startRingBatching(ringDir, [first.url, second.url]);
    await bothUp(batching);
    first.loseAnswers(true);
    await batching.push(10);
    await batching.drained();
    expect(await stored([servers[0]])).toEqual({ rows: 10 * SPANS_PER_BLOCK, spans: 10 * SPANS_PER_BLOCK });
    expect(batching.storage.availability.all[0].availability.isUp).toBe(false);
  });

  test('by which rows go by chance, to shards that nobody knows, take nothing', async () => {
    await using first = await startReplica(servers[0], asWayToNowhere);
    await using batching = startRingBatching(ringDir, [first.url]);
    await until(
      () => JSON.stringify(batching.storage.availability.status).includes('The cluster shards is not in system.clusters'),
      'the reason is told',
    );
    expect(batching.storage.availability.isUp).toBe(false);
  });

  test.each([
    ['of another cluster', '10.0.0.3'],
    ["of the server's own addresses", '127.0.0.1'],
  ])('they are no ways to the same shards when those are %s', async (_, address) => {
    await using first = await startReplica(servers[0], asWayToShards(address === '127.0.0.1' ? address : '10.0.0.2'));
    await using second = await startReplica(servers[1], asWayToShards(address));
    await using batching = startRingBatching(ringDir, [first.url, second.url]);
    await bothUp(batching);
    const [one, other] = batching.storage.availability.all.map(({ deduplicationDomain }) => deduplicationDomain);
    expect(one).not.toBe(other);
  });
});

interface Forwarded {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
}

function asReplica(keeperTransaction = '7'): Pretence {
  return (query) => {
    if (query.includes('FROM system.zookeeper')) return row({ transaction: keeperTransaction, seconds: '1700000000' });
    if (query.includes('FROM system.replicas')) return row({ path: '/clickhouse/tables/1/otel_traces' });
    if (query.startsWith('SELECT engine, toString(uuid)')) return row({ engine: 'ReplicatedMergeTree', uuid: '', engineFull: '' });
    return undefined;
  };
}

function asWayToShards(secondAddress: string): Pretence {
  return (query) => {
    if (query.includes('FROM system.clusters'))
      return rows(
        ['10.0.0.1', secondAddress].map((address, i) => ({
          shard: i + 1,
          host: `shard-${i}`,
          address,
          port: 9000,
          internalReplication: 1,
        })),
      );
    if (query.startsWith('SELECT engine, toString(uuid)'))
      return row({
        engine: 'Distributed',
        uuid: '',
        engineFull: "Distributed('shards', 'default', 'otel_traces_local', cityHash64(TraceId))",
      });
    return undefined;
  };
}

function asWayToNowhere(query: string): Forwarded | undefined {
  if (query.includes('FROM system.clusters')) return rows([]);
  if (query.startsWith('SELECT engine, toString(uuid)'))
    return row({ engine: 'Distributed', uuid: '', engineFull: "Distributed('shards', 'default', 'otel_traces_local', rand())" });
  return undefined;
}

function row(values: object): Forwarded {
  return rows([values]);
}

function rows(list: readonly object[]): Forwarded {
  return {
    status: 200,
    headers: { 'x-clickhouse-query-id': 'pretended' },
    body: Buffer.from(list.map((values) => `${JSON.stringify(values)}\n`).join('')),
  };
}

async function forward(url: string, path: string, headers: NodeJS.Dict<string | string[]>, body: Buffer): Promise<Forwarded> {
  const passed = Object.fromEntries(
    ['authorization', 'content-encoding'].flatMap((name) => (headers[name] === undefined ? [] : [[name, String(headers[name])]])),
  );
  const response = await fetch(`${url}${path}`, { method: 'POST', headers: { ...passed, connection: 'close' }, body });
  const own = [...response.headers].filter(([name]) => name.startsWith('x-clickhouse'));
  return { status: response.status, headers: Object.fromEntries(own), body: Buffer.from(await response.arrayBuffer()) };
}
