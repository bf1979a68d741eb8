import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, createServer, request as forward, type RequestListener } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { json, startHive, type Hive } from '../integration/auth-hive.ts';
import { EXPORT, grpcClient } from '../support/clients/grpc-client.ts';
import { type Headers, JSON_TYPE, PROTOBUF_TYPE, type RequestBody, send } from '../support/clients/otlp-client.ts';
import { incompressible } from '../support/generators/incompressible.ts';
import { gatewayProtobuf } from '../support/generators/payloads.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, ingestThreads, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';

/* One collector traces itself into another, which stores what it is sent as it stores everything. */

const SELF_TABLE = 'self_traces';
const TOKEN = 'token-41b6c2';
const SELF_TOKEN = 'self-9d02fe';
const PASSWORD = 'swordfish-77';
const { body } = gatewayProtobuf({ spans: 7, seed: 1 });

interface SelfSpan {
  readonly TraceId: string;
  readonly SpanId: string;
  readonly ParentSpanId: string;
  readonly SpanName: string;
  readonly SpanKind: string;
  readonly StatusCode: string;
  readonly ServiceName: string;
  readonly SpanAttributes: Readonly<Record<string, string>>;
  readonly linked: readonly string[];
  readonly startMs: number;
  readonly endMs: number;
}

let clickhouse: TestClickHouse;
let hive: Hive;
/** Where the traces go. */
let sink: Collector;

beforeAll(async () => {
  [clickhouse, hive] = await Promise.all([startClickHouse({ systemLogs: false }), startHive(json(200, { targetId: 'target-1' }))]);
  sink = await startCollector({ clickhouse, env: { CLICKHOUSE_TABLE: SELF_TABLE } });
});
afterAll(async () => {
  await sink[Symbol.asyncDispose]();
  await Promise.all([hive[Symbol.asyncDispose](), clickhouse[Symbol.asyncDispose]()]);
});
beforeEach(async () => {
  // The last spans of an earlier test.
  await until(async () => {
    const metrics = await sink.metrics();
    const inHand = ['requests_in_hand', 'queue_spans', 'inserts_under_way'].map((name) => metrics.get(`hive_collector_${name}`));
    return inHand.every((count) => count === 0);
  }, 'all traces so far are stored');
  await clickhouse.command(`TRUNCATE TABLE ${SELF_TABLE}`);
});

/** Settings with which every request is traced, and its spans are sent at once. */
function tracing(endpoint: string): Record<string, string> {
  return {
    ENABLE_SELF_TRACING: 'true',
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_TRACES_SAMPLER: 'always_on',
    OTEL_BSP_SCHEDULE_DELAY: '50',
  };
}

async function selfSpans(): Promise<SelfSpan[]> {
  return clickhouse.query<SelfSpan>(
    `SELECT TraceId, SpanId, ParentSpanId, SpanName, SpanKind, StatusCode, ServiceName, SpanAttributes, Links.SpanId AS linked,
      toUnixTimestamp64Nano(Timestamp) / 1e6 AS startMs, (toUnixTimestamp64Nano(Timestamp) + Duration) / 1e6 AS endMs
      FROM ${SELF_TABLE} ORDER BY Timestamp`,
  );
}

/** Waits for so many spans of a name. @returns all spans by then. Each thread sends its own: inserts come from the main thread */
async function untilTraced(name: string, count = 1): Promise<SelfSpan[]> {
  await until(
    async () => (await selfSpans()).filter(({ SpanName }) => SpanName === name).length >= count,
    `${count} spans ${name} are stored`,
  );
  return selfSpans();
}

function named(spans: readonly SelfSpan[], name: string): SelfSpan {
  const found = spans.find(({ SpanName }) => SpanName === name);
  if (found === undefined) throw new Error(`no span ${name} among ${spans.map(({ SpanName }) => SpanName).join(', ')}`);
  return found;
}

function expectWithin(inner: SelfSpan, outer: SelfSpan): void {
  // A time in ns as a double of ms.
  const rounding = 0.001;
  expect(inner.startMs).toBeGreaterThanOrEqual(outer.startMs - rounding);
  expect(inner.endMs).toBeLessThanOrEqual(outer.endMs + rounding);
}

describe('a request', () => {
  test('is one trace from its arrival to ClickHouse: its steps, its block, the insert', async () => {
    await using collector = await startCollector({ clickhouse, env: tracing(sink.url) });
    expect((await collector.send(body)).status).toBe(200);
    await untilTraced('INSERT otel_traces');
    const spans = await untilTraced('POST /v1/traces');
    const request = named(spans, 'POST /v1/traces');

    expect(request).toMatchObject({
      ParentSpanId: '',
      SpanKind: 'SPAN_KIND_SERVER',
      StatusCode: 'STATUS_CODE_UNSET',
      ServiceName: 'hive-otel-collector',
    });
    expect(request.SpanAttributes).toMatchObject({
      'http.request.method': 'POST',
      'http.route': '/v1/traces',
      'http.response.status_code': '200',
      'hive_collector.target_id': 'target-1',
      'hive_collector.encoding': 'protobuf',
      'hive_collector.body_bytes': String(body.length),
      'hive_collector.spans': '7',
    });
    for (const name of ['authenticate', 'read body', 'transcode', 'block']) {
      expect(named(spans, name)).toMatchObject({ TraceId: request.TraceId, ParentSpanId: request.SpanId });
      expectWithin(named(spans, name), request);
    }
    const insert = named(spans, 'INSERT otel_traces');
    expect(insert).toMatchObject({ TraceId: request.TraceId, ParentSpanId: named(spans, 'block').SpanId, SpanKind: 'SPAN_KIND_CLIENT' });
    expectWithin(insert, named(spans, 'block'));
    expect(insert.SpanAttributes).toMatchObject({
      'db.system.name': 'clickhouse',
      'db.operation.name': 'INSERT',
      'db.namespace': 'default',
      'db.collection.name': 'otel_traces',
      'server.address': '127.0.0.1',
      'server.port': new URL(clickhouse.url).port,
      'hive_collector.spans': '7',
      'hive_collector.blocks': '1',
    });
    expect(spans).toHaveLength(6);
  });

  test('with the disk buffer is answered before the insert, which is in the trace of the first and linked to the others', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'self-tracing-'));
    try {
      await using collector = await startCollector({
        clickhouse,
        env: {
          ...tracing(sink.url),
          ENABLE_DISK_BUFFER: 'true',
          DISK_BUFFER_DIR: dir,
          DISK_BUFFER_MAX_SIZE_MB: '8',
          BATCH_TIMEOUT_MS: '2000',
        },
      });
      for (let request = 0; request < 2; request++) await collector.send(body);
      await untilTraced('POST /v1/traces', 2);
      const spans = await untilTraced('INSERT otel_traces');
      const insert = named(spans, 'INSERT otel_traces');
      const blocks = spans.filter(({ SpanName }) => SpanName === 'block');
      expect(insert).toMatchObject({
        TraceId: blocks[0].TraceId,
        ParentSpanId: blocks[0].SpanId,
        linked: [blocks[1].SpanId],
        SpanAttributes: { 'hive_collector.blocks': '2', 'hive_collector.spans': '14' },
      });
      expect(insert.startMs).toBeGreaterThan(named(spans, 'POST /v1/traces').endMs);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test('shares its block with others, and is linked to it and by it', async () => {
    await using collector = await startCollector({ clickhouse, env: { ...tracing(sink.url), BATCH_WORKERS: '1' } });
    const agents = Array.from({ length: 20 }, () => new Agent({ keepAlive: true }));
    const sendAll = (message: RequestBody, type: Headers) => {
      const headers = { ...type, 'x-hive-target-ref': 'target-1' };
      return Promise.all(agents.map((agent) => send(`${collector.url}/v1/traces`, message, { agent, headers })));
    };
    await sendAll('{}', JSON_TYPE);
    // While an insert is under way, no other one begins with the block of the first of them.
    clickhouse.pause();
    const first = collector.send(body);
    await until(async () => (await collector.metrics()).get('hive_collector_inserts_under_way') === 1, 'an insert is under way');
    // They come while it is stopped, over connections that it has accepted: so it reads them all in one tick, however slow the machine is.
    // How many it transcodes in that tick, and so the number of blocks, depends on the machine, and on the threads of the connections.
    collector.signal('SIGSTOP');
    const sent = sendAll(body, PROTOBUF_TYPE);
    await delay(500);
    collector.signal('SIGCONT');
    // The insert must not end between two of them.
    await until(
      async () => (await collector.metrics()).get('hive_collector_requests_in_hand') === 1 + agents.length,
      'all requests are read',
    );
    clickhouse.resume();
    await Promise.all([first, sent]);
    for (const agent of agents) agent.destroy();
    const spans = await untilTraced('POST /v1/traces', 1 + 2 * agents.length);

    const blocks = spans.filter(({ SpanName }) => SpanName === 'block').slice(1);
    const requests = spans.filter(({ SpanName }) => SpanName === 'POST /v1/traces').slice(1 + agents.length);
    const members = blocks.map(({ SpanId }) => requests.filter(({ linked }) => linked.includes(SpanId)));
    for (const [at, block] of blocks.entries()) {
      expect(requests.filter(({ SpanId }) => SpanId === block.ParentSpanId)).toMatchObject([{ TraceId: block.TraceId, linked: [] }]);
      expect(new Set(block.linked)).toEqual(new Set(members[at].map(({ SpanId }) => SpanId)));
      for (const { linked } of members[at]) expect(linked).toEqual([block.SpanId]);
      expect(block.SpanAttributes['hive_collector.spans']).toBe(String(7 * (members[at].length + 1)));
    }
    expect(members.flat()).not.toEqual([]);
    // Each request is in one of them.
    expect(blocks.length + members.flat().length).toBe(agents.length);
  });

  test('large enough for a worker thread has a block of its own', async () => {
    await using collector = await startCollector({ clickhouse, env: { ...tracing(sink.url), TRANSCODE_INLINE_KB: '0' } });
    await collector.send(incompressible(64));
    await untilTraced('INSERT otel_traces');
    await untilTraced('block');
    const spans = await untilTraced('POST /v1/traces');
    const block = named(spans, 'block');
    expect(named(spans, 'INSERT otel_traces').ParentSpanId).toBe(block.SpanId);
    expect(block.ParentSpanId).toBe(named(spans, 'POST /v1/traces').SpanId);
    const bytes = (await collector.metrics()).get('hive_collector_block_bytes_sum');
    expect(bytes).toBeGreaterThan(0);
    expect(block.SpanAttributes).toMatchObject({ 'hive_collector.spans': '1', 'hive_collector.bytes': String(bytes) });
  });

  test('from a browser, which takes the way through the router, is traced as well', async () => {
    await using collector = await startCollector({ clickhouse, env: { ...tracing(sink.url), CORS_ALLOWED_ORIGINS: '*' } });
    await collector.send(body, { origin: 'https://app.example' });
    const spans = await untilTraced('POST /v1/traces');
    expect(named(spans, 'block').ParentSpanId).toBe(named(spans, 'POST /v1/traces').SpanId);
  });

  test('over gRPC has the names of gRPC', async () => {
    const [grpcPort] = await freePorts(1);
    await using collector = await startCollector({ clickhouse, env: { ...tracing(sink.url), GRPC_PORT: String(grpcPort) } });
    using calls = grpcClient(grpcPort);
    await calls.call(EXPORT, body, { 'x-hive-target-ref': 'target-1' });
    expect(collector.output()).not.toContain('failed');
    const name = 'opentelemetry.proto.collector.trace.v1.TraceService/Export';
    const spans = await untilTraced(name);
    expect(named(spans, name).SpanAttributes).toMatchObject({
      'rpc.system': 'grpc',
      'rpc.method': 'Export',
      'rpc.grpc.status_code': '0',
      'hive_collector.spans': '7',
    });
    expect(named(spans, 'block').ParentSpanId).toBe(named(spans, name).SpanId);
  });
});

describe('a plain request', () => {
  /** With these the collector writes a line for each request that node:http reads. */
  const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(
    `import { subscribe } from 'node:diagnostics_channel';
    const print = ({ request }) => console.log('by node:http:', request.method, request.headers['x-request-id']);
    subscribe('http.server.request.start', print);`,
  )}`;

  test.each([
    ['every request is traced', { OTEL_TRACES_SAMPLER: 'always_on' }],
    ['one in a hundred is', { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.01' }],
    ['none is', { OTEL_TRACES_SAMPLER: 'always_off' }],
  ])('is read without node:http when %s', async (_, sampler) => {
    await using receiver = await startReceiver();
    await using collector = await startCollector({ clickhouse, env: { ...tracing(receiver.url), ...sampler, NODE_OPTIONS } });
    for (let request = 0; request < 5; request++) expect((await collector.send(body, { 'x-request-id': 'plain' })).status).toBe(200);
    expect((await collector.send(body, { 'x-request-id': 'other', 'proxy-connection': 'keep-alive' })).status).toBe(200);
    await until(() => collector.output().includes('by node:http: POST other'), 'the other request is seen');
    expect(collector.output()).not.toContain('by node:http: POST plain');
  });

  test('has the spans and attributes that it would have by way of Nest', async () => {
    await using collector = await startCollector({ clickhouse, env: tracing(sink.url) });
    const headers = { 'user-agent': 'an-exporter/1.2', 'traceparent': '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };
    const unusual: Headers[] = [{}, { 'proxy-connection': 'keep-alive' }];
    for (const more of unusual) {
      expect((await collector.send(body, { ...headers, ...more })).status).toBe(200);
      expect((await collector.send('{', { ...headers, ...more, ...JSON_TYPE })).status).toBe(400);
    }
    await untilTraced('INSERT otel_traces', 2);
    const spans = await untilTraced('POST /v1/traces', 4);
    const traces = spans
      .filter(({ SpanName }) => SpanName === 'POST /v1/traces')
      .map((root) => ({ root, steps: spans.filter(({ TraceId }) => TraceId === root.TraceId) }));
    const [plain, plainRefused, other, otherRefused] = traces.map(({ root: { SpanKind, StatusCode, SpanAttributes, linked }, steps }) => ({
      SpanKind,
      StatusCode,
      SpanAttributes,
      linked,
      steps: steps
        .map(({ SpanName, SpanAttributes: attributes }) => `${SpanName}: ${Object.keys(attributes).join(', ')}`)
        .toSorted(compareText),
    }));
    expect(plain).toEqual(other);
    expect(plainRefused).toEqual(otherRefused);
    expect(plain).toMatchObject({
      SpanAttributes: { 'user_agent.original': 'an-exporter/1.2', 'network.protocol.version': '1.1', 'http.response.status_code': '200' },
      linked: ['b7ad6b7169203331'],
    });
    expect(plain.steps.map(nameOf)).toEqual(['INSERT otel_traces', 'POST /v1/traces', 'authenticate', 'block', 'read body', 'transcode']);
    expect(plainRefused.SpanAttributes['http.response.status_code']).toBe('400');
    expect(plainRefused.steps.map(nameOf)).toEqual(['POST /v1/traces', 'authenticate', 'read body', 'transcode']);
  });

  test('whose sender leaves before its answer ends with that', async () => {
    await using receiver = await startReceiver();
    let isAsked = false;
    await using silentHive = await startServer(() => (isAsked = true));
    await using collector = await startCollector({
      clickhouse,
      env: { ...tracing(receiver.url), DISABLE_AUTH: 'false', HIVE_OTEL_AUTH_ENDPOINT: silentHive.url },
    });
    const socket = connect(Number(new URL(collector.url).port), '127.0.0.1');
    const head =
      `POST /v1/traces HTTP/1.1\r\nHost: collector\r\nAuthorization: Bearer ${TOKEN}\r\n` +
      `X-Hive-Target-Ref: a/b/c\r\nContent-Length: ${body.length}\r\n\r\n`;
    socket.write(Buffer.concat([Buffer.from(head), body]));
    await until(() => isAsked, 'the token is looked up');
    socket.resetAndDestroy();
    await until(() => receiver.bodies.join('').includes('sender_left'), 'the span is sent');
  });
});

test("a sender's own span is linked; whether it is sampled makes no difference", async () => {
  const [traceId, spanId] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'];
  await using collector = await startCollector({
    clickhouse,
    env: { ...tracing(sink.url), OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' },
  });
  await using traced = await startCollector({ clickhouse, env: tracing(sink.url) });
  const headers = { traceparent: `00-${traceId}-${spanId}-01` };
  for (let request = 0; request < 20; request++) expect((await collector.send(body, headers)).status).toBe(200);
  await traced.send(body, headers);
  await traced.send(body, { traceparent: 'nonsense' });
  const requests = (await untilTraced('POST /v1/traces', 2)).filter(({ SpanName }) => SpanName === 'POST /v1/traces');
  expect(requests.map(({ linked }) => linked)).toEqual([[spanId], []]);
  expect(requests[0].TraceId).not.toBe(traceId);
});

test('refusals show with their status; only those of the collector are errors', async () => {
  await using collector = await startCollector({ clickhouse, env: tracing(sink.url) });
  await collector.send('{', JSON_TYPE);
  await clickhouse.command("ALTER TABLE otel_traces ADD CONSTRAINT no_poison CHECK SpanName != 'poison'");
  const now = `${Date.now()}000000`;
  const poison = {
    traceId: '5b8efff798038103d269b633813fc60c',
    spanId: 'eee19b7ec3c1b174',
    name: 'poison',
    startTimeUnixNano: now,
    endTimeUnixNano: now,
  };
  expect((await collector.send(JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [poison] }] }] }), JSON_TYPE)).status).toBe(500);
  await clickhouse.command('ALTER TABLE otel_traces DROP CONSTRAINT no_poison');

  await untilTraced('INSERT otel_traces', 2);
  const spans = await untilTraced('POST /v1/traces', 2);
  const [malformed, refused] = spans.filter(({ SpanName }) => SpanName === 'POST /v1/traces');
  expect(malformed).toMatchObject({ StatusCode: 'STATUS_CODE_UNSET', SpanAttributes: { 'http.response.status_code': '400' } });
  expect(refused).toMatchObject({
    StatusCode: 'STATUS_CODE_ERROR',
    SpanAttributes: { 'http.response.status_code': '500', 'error.type': '500' },
  });
  const inserts = spans.filter(({ SpanName }) => SpanName === 'INSERT otel_traces');
  expect(inserts.length).toBeGreaterThanOrEqual(2);
  for (const insert of inserts)
    expect(insert).toMatchObject({ StatusCode: 'STATUS_CODE_ERROR', SpanAttributes: { 'db.response.status_code': '469' } });
});

test('no token and no password is in what is sent', async () => {
  await using receiver = await startReceiver();
  await using door = await startDoor();
  const env = {
    ...tracing(receiver.url),
    DISABLE_AUTH: 'false',
    HIVE_OTEL_AUTH_ENDPOINT: hive.url,
    CLICKHOUSE_URL: door.url.replace('//', `//collector:${PASSWORD}@`),
    OTEL_EXPORTER_OTLP_HEADERS: `Authorization=Bearer%20${SELF_TOKEN},x-hive-target-ref=a/b/c`,
  };
  await using collector = await startCollector({ env });
  await until(async () => (await collector.send(body, { authorization: `Bearer ${TOKEN}` })).status === 200, 'spans are stored');
  await collector.send(body, { authorization: `Bearer ${TOKEN}`, 'content-type': 'text/plain' });
  await until(() => receiver.bodies.join('').includes('INSERT otel_traces'), 'spans are sent');
  await collector.stop();

  expect(receiver.headers[0]).toMatchObject({
    authorization: `Bearer ${SELF_TOKEN}`,
    'x-hive-target-ref': 'a/b/c',
    'content-type': 'application/x-protobuf',
  });
  for (const secret of [TOKEN, SELF_TOKEN, PASSWORD]) {
    expect(receiver.bodies.join('')).not.toContain(secret);
    expect(collector.output()).not.toContain(secret);
  }
});

test('while it is off, nothing is sent, whatever OTEL_ variables say, and no SDK is loaded', async () => {
  await using receiver = await startReceiver();
  // Node then says which packages are loaded.
  const env = {
    NODE_DEBUG: 'module',
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    OTEL_TRACES_SAMPLER: 'always_on',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    OTEL_BSP_SCHEDULE_DELAY: '50',
  };
  await using off = await startCollector({ clickhouse, env });
  await off.send(body);
  await off.stop();
  expect(receiver.bodies).toEqual([]);
  expect(loadsTheSdk(off)).toBe(false);

  await using disabled = await startCollector({
    clickhouse,
    env: { ...env, OTEL_EXPORTER_OTLP_PROTOCOL: '', ENABLE_SELF_TRACING: 'true', OTEL_SDK_DISABLED: 'true' },
  });
  await disabled.send(body);
  await disabled.stop();
  expect(receiver.bodies).toEqual([]);
  expect(loadsTheSdk(disabled)).toBe(false);

  await using on = await startCollector({ clickhouse, env: { ...env, ...tracing(receiver.url), OTEL_EXPORTER_OTLP_PROTOCOL: '' } });
  // Its output is complete when it has ended: what NODE_DEBUG writes does not come through the pipe of the log.
  await on.stop();
  expect(loadsTheSdk(on)).toBe(true);
});

test('a collector that traces itself into itself says so, and does not trace its own traces', async () => {
  const [port] = await freePorts(1);
  await using collector = await startCollector({
    clickhouse,
    env: { ...tracing(`http://127.0.0.1:${port}`), PORT: String(port), CLICKHOUSE_TABLE: SELF_TABLE },
  });
  expect(collector.output()).toContain('the endpoint is this collector itself');
  await collector.send(body);
  await untilTraced('POST /v1/traces');
  // Twenty times as long as its spans wait to be sent.
  await delay(1_000);
  const requests = (await selfSpans()).filter(({ SpanName }) => SpanName === 'POST /v1/traces');
  expect(requests).toHaveLength(1);
});

describe('when the endpoint is down', () => {
  test('requests are answered as ever, one warning is written, and the end does not wait', async () => {
    const [port] = await freePorts(1);
    await using collector = await startCollector({ clickhouse, env: tracing(`http://127.0.0.1:${port}`) });
    for (let request = 0; request < 30; request++) expect((await collector.send(body)).status).toBe(200);
    const warnings = () => collector.output().match(/^.*The collector's own traces can't be sent.*$/gm) ?? [];
    await until(() => warnings().length > 0, 'the warning is written');
    if (ingestThreads.length === 1) expect(warnings()).toHaveLength(1);
    // Each thread sends its own traces, and warns of them.
    const threads = warnings().map((line) => (JSON.parse(line) as { thread?: number }).thread);
    expect(new Set(threads).size).toBe(threads.length);
    expect(await collector.stop()).toMatchObject({ code: 0, tookMs: expect.toSatisfy((tookMs: number) => tookMs < 8_000) });
  });
});

test('what has not been sent yet is sent at the end', async () => {
  await using collector = await startCollector({ clickhouse, env: { ...tracing(sink.url), OTEL_BSP_SCHEDULE_DELAY: '60000' } });
  await collector.send(body);
  expect(await selfSpans()).toEqual([]);
  expect(await collector.stop()).toMatchObject({ code: 0 });
  await untilTraced('INSERT otel_traces');
});

const compareText = (one: string, other: string) => (one < other ? -1 : 1);
const nameOf = (step: string) => step.split(':', 1)[0];

/** By what NODE_DEBUG=module makes Node write. */
function loadsTheSdk(collector: Collector): boolean {
  return collector.output().includes('@opentelemetry/sdk-trace');
}

interface Server extends AsyncDisposable {
  readonly url: string;
}

interface Receiver extends Server {
  readonly headers: readonly object[];
  readonly bodies: readonly string[];
}

/** An OTLP endpoint that takes everything, and keeps it as it came. */
async function startReceiver(): Promise<Receiver> {
  const headers: object[] = [];
  const bodies: string[] = [];
  const server = await startServer((request, response) => {
    headers.push(request.headers);
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      bodies.push(Buffer.concat(pieces).toString('latin1'));
      response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
    });
  });
  return { ...server, headers, bodies };
}

/** A proxy to ClickHouse for clients that send a password: the user of the tests has none. */
async function startDoor(): Promise<Server> {
  return startServer((request, response) => {
    const { authorization: _, ...headers } = request.headers;
    request.pipe(
      forward(`${clickhouse.url}${request.url}`, { method: request.method, headers }, (answer) =>
        answer.pipe(response.writeHead(answer.statusCode ?? 500, answer.headers)),
      ).on('error', () => response.destroy()),
    );
  });
}

async function startServer(listener: RequestListener): Promise<Server> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.close().closeAllConnections();
      await once(server, 'close');
    },
  };
}
