import { readdirSync } from 'node:fs';
import { request } from 'node:http';
import { Script } from 'node:vm';
import { gunzipSync } from 'node:zlib';
import { DOMParser } from '@xmldom/xmldom';
import { Profile } from 'pprof-format';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Load, startLoad } from '../support/clients/load.ts';
import { type Answer, JSON_TYPE, send } from '../support/clients/otlp-client.ts';
import { hiveGatewayBatch } from '../support/generators/payloads.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, ingestThreads, startCollector, until } from '../support/servers/collector.ts';

/* Profiles of the built program under load: small requests in the threads that read them, and large ones for a worker thread. */

// The kernel spreads connections: of so many, each thread gets some.
const SENDERS = ingestThreads.length === 1 ? 4 : 8 * ingestThreads.length;
/** Those that are there without a large body. */
const THREADS = [...new Set(['main', ...ingestThreads])];

let clickhouse: TestClickHouse;
let collector: Collector;
let load: Load;
let largeLoad: Promise<unknown>;
const over = new AbortController();
/** The modules of this program, whose names profiles begin with. */
const FOLDERS = readdirSync(new URL('../../src', import.meta.url));
const isOwn = (name: string): boolean => FOLDERS.some((folder) => name.startsWith(`${folder}/`));

async function sendLargeBodies(): Promise<void> {
  const { body } = hiveGatewayBatch({ spans: 2_000, seed: 1 });
  while (!over.signal.aborted) await collector.send(body, JSON_TYPE);
}

beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
  collector = await startCollector({ clickhouse, env: { TRANSCODER_THREADS: '1' } });
  load = startLoad(collector.url, { senders: SENDERS, tracesPerRequest: 20 });
});
afterAll(async () => {
  over.abort();
  await load.stop();
  await largeLoad;
  await collector[Symbol.asyncDispose]();
  await clickhouse[Symbol.asyncDispose]();
});

const get = (path: string): Promise<Answer> => send(`${collector.adminUrl}/debug/pprof/${path}`, '', { method: 'GET' });

interface SeenSample {
  readonly thread: string;
  /** Innermost function first. */
  readonly functions: readonly string[];
  readonly values: readonly number[];
}

interface SeenProfile {
  readonly types: readonly string[];
  readonly period: string;
  readonly seconds: number;
  readonly samples: readonly SeenSample[];
  readonly files: ReadonlySet<string>;
}

function decode({ body }: Answer): SeenProfile {
  const profile = Profile.decode(gunzipSync(body));
  const text = (index: number | bigint) => profile.stringTable.strings[Number(index)];
  const functions = new Map(profile.function.map((one) => [Number(one.id), one]));
  const names = new Map(profile.location.map(({ id, line }) => [Number(id), text(functions.get(Number(line[0].functionId))!.name)]));
  return {
    types: profile.sampleType.map(({ type, unit }) => `${text(type)}/${text(unit)}`),
    period: `${text(profile.periodType!.type)}/${text(profile.periodType!.unit)}: ${Number(profile.period)}`,
    seconds: Number(profile.durationNanos) / 1e9,
    samples: profile.sample.map(({ label, locationId, value }) => ({
      thread: label
        .filter(({ key }) => text(key) === 'thread')
        .map(({ str }) => text(str))
        .join(),
      functions: locationId.map((id) => names.get(Number(id))!),
      values: value.map(Number),
    })),
    files: new Set(profile.function.map(({ filename }) => text(filename))),
  };
}

function functionsOf({ samples }: SeenProfile, thread: RegExp): ReadonlySet<string> {
  return new Set(samples.filter((sample) => thread.test(sample.thread)).flatMap(({ functions }) => functions));
}

describe('a CPU profile', () => {
  test('names our functions by thread, and sums up to the processor time used; a thread that starts meanwhile is in it', async () => {
    const before = (await collector.metrics()).get('otelcol_process_cpu_seconds_total')!;
    const answering = get('profile?seconds=4&frequency=500');
    // Several at once: the worker thread always has one to parse, also when others use this machine.
    largeLoad = Promise.all(Array.from({ length: 4 }, sendLargeBodies));
    const answer = await answering;
    const used = (await collector.metrics()).get('otelcol_process_cpu_seconds_total')! - before;

    expect(answer).toMatchObject({
      status: 200,
      headers: { 'content-type': 'application/octet-stream', 'content-disposition': 'attachment; filename="cpu.pb.gz"' },
    });
    const profile = decode(answer);
    expect(profile).toMatchObject({ types: ['samples/count', 'cpu/nanoseconds'], period: 'cpu/nanoseconds: 2000000' });
    expect(profile.seconds).toBeGreaterThanOrEqual(4);
    expect([...new Set(profile.samples.map(({ thread }) => thread))].sort()).toEqual(
      [...THREADS, 'threads without JavaScript', 'transcoder 1'].sort(),
    );
    const parsing = profile.samples.filter(({ functions }) => functions.includes('transcode/protobuf/protobuf-transcoder.span'));
    expect(parsing).not.toEqual([]);
    expect(parsing.filter(({ thread }) => !ingestThreads.includes(thread))).toEqual([]);
    // With who called them. Others on the way are too short to be met in every profile.
    for (const { functions } of parsing) expect(functions).toContain('blocks/open-block.add');
    expect(functionsOf(profile, /^transcoder/)).toContain('transcode/json/json-transcoder.span');
    expect(profile.files).toContain('src/transcode/json/json-transcoder.ts');
    const sampled = profile.samples.reduce((sum, { values }) => sum + values[1], 0) / 1e9;
    expect(sampled).toBeGreaterThan(0.5 * used);
    expect(sampled).toBeLessThanOrEqual(1.02 * used);
  });

  test('as a flame graph is an SVG with a script that compiles, and with all threads', async () => {
    const answer = await get('flamegraph?seconds=2&frequency=500');

    expect(answer).toMatchObject({ status: 200, headers: { 'content-type': 'image/svg+xml' } });
    expect(answer.headers['content-security-policy']).toMatch(
      /^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; connect-src 'none';/,
    );
    // Throws at what is not well-formed.
    const svg = new DOMParser({ onError: (_level, message) => expect.unreachable(message) }).parseFromString(
      answer.body.toString(),
      'image/svg+xml',
    );
    const boxes = Array.from(svg.getElementsByTagName('g'), (box) => ({
      name: box.getAttribute('data-name'),
      row: box.getAttribute('data-d'),
    }));
    expect(boxes).toContainEqual({ name: 'all', row: '0' });
    for (const name of [...THREADS, 'transcoder 1']) expect(boxes).toContainEqual({ name, row: '1' });
    expect(boxes.map(({ name }) => name)).toContain('transcode/json/json-transcoder.span');
    expect(() => new Script(svg.getElementsByTagName('script')[0].textContent ?? 'no script')).not.toThrow();
  });
});

describe('a heap profile', () => {
  test.each([
    ['allocs', 'alloc_space'],
    ['heap', 'inuse_space'],
  ])('%s names who allocates, by thread', async (path, type) => {
    let functions: ReadonlySet<string>;
    // What is still in use is what the garbage collector has not come to yet: just behind a collection, that is nothing.
    for (let attempt = 1; ; attempt++) {
      const answer = await get(`${path}?seconds=2`);

      expect(answer.status).toBe(200);
      const profile = decode(answer);
      expect(profile).toMatchObject({ types: ['samples/count', `${type}/bytes`], period: 'space/bytes: 65536' });
      expect(profile.samples.every(({ values: [samples, bytes] }) => samples > 0 && bytes > 0)).toBe(true);
      functions = functionsOf(profile, /^main$/);
      if (attempt === 10 || [...functions].some(isOwn)) break;
    }
    expect([...functions].filter(isOwn)).not.toEqual([]);
  });
});

describe('one at a time', () => {
  test('a second profile is answered 429, whatever its kind, until the first one is done', async () => {
    const first = get('profile?seconds=2');
    await until(async () => (await get('heap?seconds=1')).status === 429, 'the first profile runs');

    expect(JSON.parse((await get('flamegraph')).body.toString())).toMatchObject({
      statusCode: 429,
      message: expect.stringMatching(/^Another profile is running/),
    });
    expect((await first).status).toBe(200);
    expect((await get('heap?seconds=1')).status).toBe(200);
  });

  test.each(['profile', 'heap'])('a client that leaves ends its %s', async (path) => {
    const leaving = request(`${collector.adminUrl}/debug/pprof/${path}?seconds=60`).on('error', () => {});
    leaving.end();
    await until(async () => (await get('allocs?seconds=1')).status === 429, 'the profile runs');

    leaving.destroy();
    await until(async () => (await get('allocs?seconds=1')).status === 200, 'another can be taken', 10_000);
  });
});

describe('stats', () => {
  test('says where the memory is, thread by thread', async () => {
    const stats: { rssBytes: number; threads: { thread: string; heapUsedBytes: number; cpuSeconds: number }[]; jemalloc: unknown } =
      JSON.parse((await get('stats')).body.toString());

    expect(stats.threads.map(({ thread }) => thread)).toEqual([...THREADS, 'transcoder 1']);
    for (const { heapUsedBytes, cpuSeconds } of stats.threads) {
      expect(heapUsedBytes).toBeGreaterThan(1_000_000);
      expect(heapUsedBytes).toBeLessThan(stats.rssBytes);
      expect(cpuSeconds).toBeGreaterThan(0);
    }
    expect(stats.jemalloc).toBeNull();
  });
});

describe('what is asked wrongly', () => {
  test.each([
    ['profile?seconds=0', 'seconds is "0". Allowed: a whole number from 1 to 60 (s).'],
    ['profile?seconds=61', 'seconds is "61". Allowed: a whole number from 1 to 60 (s).'],
    ['flamegraph?frequency=1001', 'frequency is "1001". Allowed: a whole number from 1 to 1000 (Hz).'],
    ['heap?seconds=', 'seconds is "". Allowed: a whole number from 1 to 60 (s).'],
    ['heap?seconds=1&seconds=2', 'seconds is ["1","2"]. Allowed: a whole number from 1 to 60 (s).'],
    ['allocs?frequency=9', 'frequency is not known here. Allowed: seconds.'],
    [
      'profile?hz=9&seconds=x',
      'hz is not known here. Allowed: seconds, frequency. seconds is "x". Allowed: a whole number from 1 to 60 (s).',
    ],
  ])('%s is answered 400: %s', async (path, message) => {
    const { status, body } = await get(path);
    expect({ status, ...JSON.parse(body.toString()) }).toMatchObject({ status: 400, message });
  });

  test('the OTLP port has none of it', async () => {
    expect((await send(`${collector.url}/debug/pprof/stats`, '', { method: 'GET' })).status).toBe(404);
  });

  test('nor has the admin port with ENABLE_PROFILING=false', async () => {
    await using without = await startCollector({ env: { ENABLE_PROFILING: 'false' } });
    const { status, body } = await send(`${without.adminUrl}/debug/pprof/profile`, '', { method: 'GET' });
    expect({ status, ...JSON.parse(body.toString()) }).toMatchObject({
      status: 404,
      message: 'Profiling is off (ENABLE_PROFILING=false).',
    });
  });
});

test('the index leads to each', async () => {
  const { status, headers, body } = await get('');
  expect({ status, type: headers['content-type'] }).toEqual({ status: 200, type: 'text/html; charset=utf-8' });
  expect(headers['content-security-policy']).toMatch(
    /^default-src 'none'; script-src 'none'; style-src 'sha256-[^']+'; connect-src 'none';/,
  );
  expect([...body.toString().matchAll(/<a href="\/debug\/pprof\/(\w+)">/g)].map(([, path]) => path)).toEqual([
    'flamegraph',
    'profile',
    'heap',
    'allocs',
    'stats',
  ]);
});

test('a profile does not hold up the end of the collector', async () => {
  await using ending = await startCollector();
  const profile = send(`${ending.adminUrl}/debug/pprof/profile?seconds=60`, '', { method: 'GET' });
  await until(
    async () => (await send(`${ending.adminUrl}/debug/pprof/heap?seconds=1`, '', { method: 'GET' })).status === 429,
    'the profile runs',
  );

  const exit = await ending.stop();
  expect(exit).toMatchObject({ code: 0, signal: null });
  expect(exit.tookMs).toBeLessThan(10_000);
  expect((await profile).status).toBe(503);
});
