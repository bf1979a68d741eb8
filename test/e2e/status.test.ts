import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TraceList } from '../../src/status/trace.ts';
import { JSON_TYPE, send } from '../support/clients/otlp-client.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/* The status page as a browser gets it: one file that may run nothing but its own script, and the events it lives on. */

let clickhouse: TestClickHouse;
beforeAll(async () => {
  clickhouse = await startClickHouse({ systemLogs: false });
});
afterAll(() => clickhouse[Symbol.asyncDispose]());

interface Viewer extends Disposable {
  readonly status: number;
  readonly events: readonly { readonly name: string; readonly data: unknown }[];
  readonly ended: Promise<void>;
  last(name: string): unknown;
}

/** An EventSource without a browser. */
async function watch(adminUrl: string): Promise<Viewer> {
  const closing = new AbortController();
  const response = await fetch(`${adminUrl}/status/events`, { signal: closing.signal });
  const events: { name: string; data: unknown }[] = [];
  async function read(): Promise<void> {
    let text = '';
    for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
      const whole = (text + piece).split('\n\n');
      text = whole.pop() ?? '';
      for (const event of whole) {
        const [, name = '', data = ''] = /^event: (\w+)\ndata: (.*)$/.exec(event) ?? [];
        events.push({ name, data: JSON.parse(data) });
      }
    }
  }
  const isStream = response.headers.get('content-type') === 'text/event-stream';
  return {
    status: response.status,
    events,
    ended: isStream ? read().catch(() => {}) : Promise.resolve(),
    last: (name) => events.findLast((event) => event.name === name)?.data,
    [Symbol.dispose]: () => closing.abort(),
  };
}

test('the page comes from the admin port, requests only its events, and its policy allows only its own script and style', async () => {
  await using collector = await startCollector({ clickhouse });
  const { status, headers, body } = await send(`${collector.adminUrl}/`, '', { method: 'GET' });
  const page = body.toString();
  const hashOf = (tag: string) =>
    `'sha256-${createHash('sha256')
      .update(page.slice(page.indexOf(`<${tag}>`) + tag.length + 2, page.indexOf(`</${tag}>`)))
      .digest('base64')}'`;

  expect(status).toBe(200);
  expect(headers['content-type']).toBe('text/html; charset=utf-8');
  const policy = String(headers['content-security-policy']);
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain(`script-src ${hashOf('script')};`);
  expect(policy).toContain(`style-src ${hashOf('style')};`);
  expect(policy).not.toMatch(/unsafe|\*|http/);
  expect(page.match(/<script/g)).toHaveLength(1);
  expect(page).not.toMatch(/ (src|style|on\w+)="/);
  // What senders wrote must not be parsed as HTML.
  expect(page).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/);
  expect((await send(`${collector.url}/status/events`, '', { method: 'GET' })).status).toBe(404);
});

test('a viewer gets what was before, and then each second what happens', async () => {
  await using collector = await startCollector({ clickhouse });
  using viewer = await watch(collector.adminUrl);
  await collector.send(gatewayProtobuf({ spans: 7, seed: 1 }).body);
  await collector.send('{', JSON_TYPE);
  const samples = () =>
    viewer.events
      .filter(({ name }) => name === 'sample')
      .map(({ data }) => data as { accepted: number; stored: number; refusedRequests: number; ackP50: number | null });
  await until(
    () =>
      samples().some(({ accepted }) => accepted > 0) &&
      samples().some(({ stored }) => stored > 0) &&
      samples().some(({ accepted }) => accepted === 0),
    'the spans show',
  );

  expect(viewer.events[0]?.name).toBe('history');
  expect(samples().find(({ accepted }) => accepted > 0)?.ackP50).toBeGreaterThan(0);
  await until(() => JSON.stringify(viewer.last('state')).includes('malformed'), 'the refusal shows');
  expect(viewer.last('state')).toMatchObject({
    clickhouse: [{ name: clickhouse.url, state: 'up' }],
    refusals: [{ status: 400, requests: 1, message: expect.stringContaining('malformed') }],
  });
  await until(() => JSON.stringify(viewer.last('state')).includes('"stored":7'), 'the totals show');
  expect(viewer.last('state')).toMatchObject({
    sendTo: { http: Number(new URL(collector.url).port) },
    totals: { accepted: 7, stored: 7, rejected: 0, notStoredInTime: 0, refusedRequests: 1, inserts: 1 },
  });
  expect(samples().some(({ refusedRequests }) => refusedRequests > 0)).toBe(true);
  expect(viewer.last('traces')).toBeUndefined();

  using later = await watch(collector.adminUrl);
  await until(() => later.last('history') !== undefined, 'the history comes');
  expect((later.last('history') as { accepted: number[] }).accepted.some((accepted) => accepted > 0)).toBe(true);
});

test('eight pages may be open; they hold up nothing when the collector ends, and are told', async () => {
  await using collector = await startCollector({ clickhouse });
  const viewers = await Promise.all(Array.from({ length: 8 }, () => watch(collector.adminUrl)));
  expect(viewers.map(({ status }) => status)).toEqual(Array.from({ length: 8 }, () => 200));
  expect((await watch(collector.adminUrl)).status).toBe(503);

  expect(await collector.stop()).toMatchObject({ code: 0, tookMs: expect.toSatisfy((tookMs: number) => tookMs < 5_000) });
  await Promise.all(viewers.map(({ ended }) => ended));
  for (const viewer of viewers) expect(viewer.events.at(-1)?.name).toBe('end');
});

function attribute(key: string, stringValue: string): object {
  return { key, value: { stringValue } };
}

function traceNames(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, index) => `trace ${from + index}`);
}

describe('in local mode', () => {
  const start = Date.now();
  const span = { traceId: '5b8efff798038103d269b633813fc60c', spanId: 'eee19b7ec3c1b174', kind: 2, startTimeUnixNano: `${start}000000` };
  const NAME = '<img src=x onerror=alert(1)>';
  let directory: string;
  let collector: Collector;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'status-local-'));
    const [clickhousePort] = await freePorts(1);
    collector = await startCollector({
      program: 'local',
      env: { LOCAL_DATA_DIR: directory, LOCAL_CLICKHOUSE_PORT: String(clickhousePort) },
    });
    await until(() => collector.output().includes('Ctrl-C stops both'), 'the instructions are printed');
  });
  afterAll(async () => {
    expect(await collector.stop()).toMatchObject({ code: 0 });
    rmSync(directory, { recursive: true, force: true });
  });

  const get = async (path: string) => {
    const { status, body } = await send(`${collector.adminUrl}${path}`, '', { method: 'GET' });
    return { status, body: JSON.parse(body.toString()) };
  };

  test('a trace that is sent is listed, and shows with its spans, as they were named', async () => {
    using viewer = await watch(collector.adminUrl);
    const spans = [
      { ...span, name: NAME, endTimeUnixNano: `${start + 100}000000` },
      {
        ...span,
        spanId: 'eee19b7ec3c1b175',
        parentSpanId: span.spanId,
        name: 'inner',
        endTimeUnixNano: `${start + 40}000000`,
        status: { code: 2, message: 'too late' },
        attributes: [attribute('b', '<b>'), attribute('a', 'x'.repeat(5_000))],
        events: [{ name: 'exception', timeUnixNano: `${start + 30}000000`, attributes: [attribute('exception.type', 'Error')] }],
      },
    ];
    await collector.send(JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans }] }] }), JSON_TYPE);
    await until(() => (viewer.last('traces') as TraceList | undefined)?.total === 1, 'the trace shows');

    expect(viewer.last('traces')).toEqual({
      total: 1,
      failed: 1,
      isOld: false,
      traces: [{ traceId: span.traceId, name: NAME, service: '', startedAtMs: start, durationMs: 100, spans: 2, failedSpans: 1 }],
    });
    expect(await get(`/status/trace?trace=${span.traceId}`)).toEqual({
      status: 200,
      body: {
        traceId: span.traceId,
        startedAtMs: start,
        durationMs: 100,
        spans: [
          { id: span.spanId, name: NAME, service: '', depth: 0, startMs: 0, durationMs: 100, failed: false },
          { id: 'eee19b7ec3c1b175', name: 'inner', service: '', depth: 1, startMs: 0, durationMs: 40, failed: true },
        ],
      },
    });
    // What is stored of a span, cut where no page would show it.
    expect((await get(`/status/span?trace=${span.traceId}&span=eee19b7ec3c1b175`)).body).toMatchObject({
      kind: 'SPAN_KIND_SERVER',
      status: 'STATUS_CODE_ERROR',
      statusMessage: 'too late',
      attributes: [
        ['a', `${'x'.repeat(4_000)}…`],
        ['b', '<b>'],
        ['hive.target_id', 'target-1'],
      ],
      events: [{ name: 'exception', afterMs: 30, attributes: [['exception.type', 'Error']] }],
    });
  });

  test('of many traces, the newest, the newest failed and the slowest are listed', async () => {
    using viewer = await watch(collector.adminUrl);
    // Every second later than the one before. Only the first ones are slow, the next ones fail.
    const spans = Array.from({ length: 60 }, (_, index) => ({
      ...span,
      traceId: index.toString(16).padStart(32, 'c'),
      name: `trace ${index}`,
      startTimeUnixNano: `${start - 100_000 + index * 1_000}000000`,
      endTimeUnixNano: `${start - 100_000 + index * 1_000 + (index < 20 ? 900 - index : 1)}000000`,
      ...(index >= 20 && index < 40 && { status: { code: 2 } }),
    }));
    await collector.send(JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans }] }] }), JSON_TYPE);
    await until(() => (viewer.last('traces') as TraceList | undefined)?.total === 61, 'the traces show');

    const { failed, traces } = viewer.last('traces') as TraceList;
    expect(failed).toBe(21);
    // The trace of the test before is the newest, and failed.
    expect(traces.map(({ name }) => name).toSorted()).toEqual(
      [NAME, ...traceNames(0, 15), ...traceNames(26, 40), ...traceNames(46, 60)].toSorted(),
    );
  });

  test.each([
    '/status/trace?trace=none',
    `/status/span?trace=${span.traceId}&span=none`,
    '/status/trace',
    '/status/trace?trace=a&trace=b',
    "/status/trace?trace=' OR 1=1 --",
  ])('%s is answered 404', async (path) => {
    expect((await get(encodeURI(path))).status).toBe(404);
  });

  test('a page under a foreign name gets no trace', async () => {
    const { status } = await send(`${collector.adminUrl}/status/trace?trace=${span.traceId}`, '', {
      method: 'GET',
      headers: { host: 'evil.example' },
    });
    expect(status).toBe(403);
  });
});

test('in production no trace can be read back', async () => {
  await using collector = await startCollector({ clickhouse });
  const { status, body } = await send(`${collector.adminUrl}/status/trace?trace=5b8efff798038103d269b633813fc60c`, '', { method: 'GET' });
  expect({ status, ...JSON.parse(body.toString()) }).toMatchObject({ status: 404, message: 'Traces are shown only in local mode.' });
});
