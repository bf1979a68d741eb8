import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { constants, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { OTLPTraceExporter as GrpcExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as HttpExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
  type SpanExporter,
} from '@opentelemetry/sdk-trace-base';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ExportTraceServiceResponse } from '../../src/otlp/messages.ts';
import type { Hive } from '../integration/auth-hive.ts';
import {
  CHECK,
  EXPORT,
  frame,
  type GrpcAnswer,
  type GrpcClient,
  grpcClient,
  type Headers,
  metadataOf,
  rawCall,
  WATCH,
} from '../support/clients/grpc-client.ts';
import { callInTinyFrames, PREFACE, resetCalls } from '../support/clients/http2-frames.ts';
import { expectStoredAsAnswered, outcomes, type Sent, SPANS_PER_TRACE } from '../support/clients/load.ts';
import { gatewayProtobuf, type Payload } from '../support/generators/payloads.ts';
import { expectedRows } from '../support/oracle/expected-rows.ts';
import { encodeRequest } from '../support/oracle/otlp-request.ts';
import { inOrder, storedRows } from '../support/oracle/stored-rows.ts';
import { startClickHouse, type TestClickHouse } from '../support/servers/clickhouse.ts';
import { type Collector, type Environment, startCollector, until } from '../support/servers/collector.ts';
import { freePorts } from '../support/servers/free-ports.ts';
import { CREDENTIALS, startHiveWithVerdicts } from '../support/servers/hive-verdicts.ts';

/* OTLP/gRPC as a sender sees it: the built program, a real ClickHouse, an auth endpoint over real HTTP, other people's clients. */

const MAX_REQUEST_MB = 8;
const MAX_BYTES = MAX_REQUEST_MB * 1024 ** 2;

let clickhouse: TestClickHouse;
let hive: Hive;
let collector: Collector;
let port: number;
let client: GrpcClient;
let nextSeed = 1;

beforeAll(async () => {
  [clickhouse, hive] = await Promise.all([startClickHouse({ systemLogs: false }), startHiveWithVerdicts()]);
  ({ collector, port } = await startWithGrpc({
    DISABLE_AUTH: 'false',
    HIVE_OTEL_AUTH_ENDPOINT: hive.url,
    MAX_REQUEST_MB: String(MAX_REQUEST_MB),
    REQUEST_TIMEOUT_MS: '1000',
  }));
  client = grpcClient(port);
});
afterAll(async () => {
  client[Symbol.dispose]();
  await collector[Symbol.asyncDispose]();
  await Promise.all([hive[Symbol.asyncDispose](), clickhouse[Symbol.asyncDispose]()]);
});

async function startWithGrpc(env: Environment = {}, on = clickhouse): Promise<{ collector: Collector; port: number }> {
  const [grpcPort] = await freePorts(1);
  return { collector: await startCollector({ clickhouse: on, env: { GRPC_PORT: String(grpcPort), ...env } }), port: grpcPort };
}

function send(body: Uint8Array, headers: Headers = {}): Promise<GrpcAnswer> {
  return client.call(EXPORT, body, { ...CREDENTIALS, ...headers });
}

async function spansStored({ traceIds }: Payload): Promise<number> {
  return (await storedRows(clickhouse, traceIds)).length;
}

test('the start says on which port gRPC listens', () => {
  expect(collector.output()).toMatch(new RegExp(`"grpc":${port}[,}].*"msg":"The collector has started"`));
});

describe("the SDK's exporter", () => {
  type Options = NonNullable<ConstructorParameters<typeof GrpcExporter>[0]>;

  test.each<[string, Options]>([
    ['at its defaults', {}],
    ['with gzip', { compression: 'gzip' as Options['compression'] }],
  ])('%s stores the rows that the same spans have over HTTP', async (_, options) => {
    const spans = someSpans(100);
    const traceIds = spans.map((span) => span.spanContext().traceId);
    await exportAll(new HttpExporter({ url: `${collector.url}/v1/traces`, headers: CREDENTIALS }), spans);
    const overHttp = await storedRows(clickhouse, traceIds);
    await clickhouse.command('TRUNCATE TABLE otel_traces');

    await exportAll(new GrpcExporter({ url: `http://127.0.0.1:${port}`, metadata: metadataOf(CREDENTIALS), ...options }), spans);

    expect(overHttp).toHaveLength(100);
    expect(await storedRows(clickhouse, traceIds)).toEqual(overHttp);
  });
});

describe('an export', () => {
  let payload: Payload;
  beforeEach(() => {
    payload = gatewayProtobuf({ spans: 11, seed: nextSeed++ });
  });

  test('is answered OK when every column of its spans is in ClickHouse', async () => {
    expect(await send(payload.body)).toEqual({ code: 'OK', message: '', response: Buffer.alloc(0), retryAfterSeconds: undefined });
    expect(await storedRows(clickhouse, payload.traceIds)).toEqual(inOrder(expectedRows(payload.body, 'target-1', 'hive')));
  });

  test('may hold no spans', async () => {
    expect(await send(Buffer.alloc(0))).toMatchObject({ code: 'OK' });
  });

  test('may come in pieces of any size', async () => {
    using call = rawCall(port, CREDENTIALS);
    const bytes = frame(payload.body);
    for (let at = 0; at < bytes.length; at += 3) {
      call.write(bytes.subarray(at, at + 3));
      // So that the first pieces, which share the prefix among them, arrive one by one.
      if (at < 12) await delay(20);
    }
    call.end();

    expect(await call.answer).toMatchObject({ ':status': 200, 'grpc-status': '0' });
    expect(await spansStored(payload)).toBe(11);
  });

  test('of several MB is stored whole', async () => {
    const large = gatewayProtobuf({ spans: 14_000, seed: nextSeed++ });
    expect(large.body.length).toBeGreaterThan(MAX_BYTES / 2);

    expect(await send(large.body)).toMatchObject({ code: 'OK' });
    const [{ spans }] = await clickhouse.query<{ spans: string }>(
      'SELECT count() AS spans FROM otel_traces WHERE TraceId IN (' + large.traceIds.map((id) => `'${id}'`).join() + ')',
    );
    expect(spans).toBe('14000');
  });

  test.each([
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
  ] as const)('may be compressed: %s', async (encoding, compress) => {
    using call = rawCall(port, { ...CREDENTIALS, 'grpc-encoding': encoding });
    call.end(frame(compress(payload.body), { compressed: 1 }));

    expect(await call.answer).toMatchObject({ 'grpc-status': '0' });
    expect(await spansStored(payload)).toBe(11);
  });

  test('is stored without the spans whose ids have a wrong length, and the sender is told how many', async () => {
    const [good, bad] = [16, 3].map((bytes) => ({
      traceId: Buffer.alloc(bytes, nextSeed++),
      spanId: Buffer.alloc(8, 7),
      startTimeUnixNano: BigInt(Date.now()) * 1_000_000n,
      attributes: [],
      events: [],
      links: [],
    }));
    const { code, response } = await send(encodeRequest({ resourceSpans: [{ scopeSpans: [{ spans: [good, bad] }] }] }));

    expect(code).toBe('OK');
    expect(ExportTraceServiceResponse.toObject(ExportTraceServiceResponse.decode(response), { longs: Number })).toEqual({
      partialSuccess: { rejectedSpans: 1, errorMessage: expect.stringContaining('id') },
    });
    expect(await storedRows(clickhouse, [good.traceId.toString('hex')])).toHaveLength(1);
  });

  test.each<{ title: string; body?: Uint8Array; headers?: Headers; code: string; says: string; retryAfterSeconds?: number }>([
    { title: 'malformed', body: Buffer.from([5]), code: 'INVALID_ARGUMENT', says: 'malformed' },
    { title: 'without a target', headers: { 'x-hive-target-ref': '' }, code: 'INVALID_ARGUMENT', says: 'X-Hive-Target-Ref' },
    { title: 'without a token', headers: { authorization: '' }, code: 'UNAUTHENTICATED', says: 'Authorization' },
    {
      title: 'with a token Hive does not know',
      headers: { authorization: 'Bearer unknown' },
      code: 'UNAUTHENTICATED',
      says: 'Invalid token provided',
    },
    {
      title: 'with a token that may not write traces',
      headers: { authorization: 'Bearer read-only' },
      code: 'PERMISSION_DENIED',
      says: 'No permission',
    },
    {
      title: 'for a target Hive does not know',
      headers: { authorization: 'Bearer misplaced' },
      code: 'NOT_FOUND',
      says: 'Target not found',
    },
    {
      title: "whose token Hive can't be asked about",
      headers: { authorization: 'Bearer unlucky' },
      code: 'UNAVAILABLE',
      says: 'credentials',
      retryAfterSeconds: 2,
    },
    { title: 'too large', body: Buffer.alloc(MAX_BYTES), code: 'RESOURCE_EXHAUSTED', says: 'MAX_REQUEST_MB' },
  ])('that is $title is answered $code', async ({ body = payload.body, headers, code, says, retryAfterSeconds }) => {
    expect(await send(body, headers)).toEqual({
      code,
      message: expect.stringContaining(says),
      response: Buffer.alloc(0),
      retryAfterSeconds,
    });
    expect(await spansStored(payload)).toBe(0);
    // The connection, and the client, are good for the next one.
    expect(await send(payload.body)).toMatchObject({ code: 'OK' });
  });

  const { body } = gatewayProtobuf({ spans: 1, seed: 0 });
  test.each<{ title: string; bytes: Uint8Array; headers?: Headers; code: string; says: string }>([
    { title: 'no message', bytes: Buffer.alloc(0), code: '3', says: 'no message' },
    { title: 'half a prefix', bytes: Buffer.alloc(3), code: '3', says: 'no message' },
    { title: 'a prefix of another format', bytes: frame(body, { compressed: 2 }), code: '3', says: 'first byte' },
    { title: 'less than its prefix says', bytes: frame(body, { length: body.length + 1 }), code: '3', says: 'shorter' },
    { title: 'two messages', bytes: Buffer.concat([frame(body), frame(body)]), code: '3', says: 'more than one' },
    { title: 'compressed bytes, and not how', bytes: frame(gzipSync(body), { compressed: 1 }), code: '3', says: 'grpc-encoding' },
    {
      title: 'another compression than it says',
      bytes: frame(body, { compressed: 1 }),
      headers: { 'grpc-encoding': 'gzip' },
      code: '3',
      says: 'gzip',
    },
    {
      title: 'an unknown compression',
      bytes: frame(body, { compressed: 1 }),
      headers: { 'grpc-encoding': 'snappy' },
      code: '12',
      says: 'snappy',
    },
    {
      title: 'too much when inflated',
      bytes: frame(gzipSync(Buffer.alloc(MAX_BYTES + 1)), { compressed: 1 }),
      headers: { 'grpc-encoding': 'gzip' },
      code: '8',
      says: 'MAX_REQUEST_MB',
    },
  ])('that holds $title is refused', async ({ bytes, headers, code, says }) => {
    using call = rawCall(port, { ...CREDENTIALS, ...headers });
    call.end(bytes);

    const answer = await call.answer;
    expect(answer).toMatchObject({
      ':status': 200,
      'content-type': 'application/grpc',
      'grpc-status': code,
      'grpc-accept-encoding': 'identity,gzip,deflate,zstd',
    });
    expect(decodeURI(String(answer['grpc-message']))).toContain(says);
  });

  test('that announces more than it may is refused before it has come', async () => {
    using call = rawCall(port, CREDENTIALS);
    call.write(frame(Buffer.alloc(10), { length: MAX_BYTES }));

    expect(await call.answer).toMatchObject({ 'grpc-status': '8' });
  });

  test('whose message stays away is answered DEADLINE_EXCEEDED', async () => {
    using call = rawCall(port, CREDENTIALS);
    call.write(frame(Buffer.alloc(10), { length: 1000 }));

    expect(await call.answer).toMatchObject({ 'grpc-status': '4' });
  });

  test('whose sender leaves is forgotten, and its memory with it', async () => {
    using call = rawCall(port, CREDENTIALS);
    call.write(frame(payload.body, { length: payload.body.length + 1 }));
    await until(async () => (await collector.metrics()).get('hive_collector_requests_in_hand') === 1, 'the call is in hand');
    call.cancel();

    await nothingIsHeld();
    expect(await spansStored(payload)).toBe(0);
  });

  test('of 10 MB that inflate to 10 GB is refused early', async () => {
    const { collector: roomy, port: itsPort } = await startWithGrpc();
    await using _ = roomy;
    using call = rawCall(itsPort, { 'grpc-encoding': 'gzip' });
    call.end(frame(bomb(10_000), { compressed: 1 }));

    expect(await call.answer).toMatchObject({ 'grpc-status': '8' });
    expect(peakMemoryMb(roomy.pid)).toBeLessThan(600);
    expect((await roomy.metrics()).get('hive_collector_memory_used_bytes')).toBe(0);
  });
});

describe('other methods and protocols', () => {
  test.each([
    '/opentelemetry.proto.collector.logs.v1.LogsService/Export',
    '/opentelemetry.proto.collector.trace.v1.TraceService/Import',
    '/',
  ])('%s is answered UNIMPLEMENTED', async (method) => {
    expect(await client.call(method, Buffer.alloc(0), CREDENTIALS)).toMatchObject({ code: 'UNIMPLEMENTED' });
  });

  test.each(['application/x-protobuf', 'application/grpc+json', 'application/grpc-web', ''])(
    'the content type %j is answered 415',
    async (contentType) => {
      using call = rawCall(port, { ...CREDENTIALS, 'content-type': contentType });
      expect(await call.answer).toMatchObject({ ':status': 415 });
    },
  );
});

test('who speaks another protocol is cut off, and nobody else notices', async () => {
  for (const words of ['GET / HTTP/1.1\r\nHost: collector\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + 'nonsense'.repeat(100)]) {
    const socket = connect(port, '127.0.0.1');
    socket
      .on('error', () => {})
      .resume()
      .write(words);
    await once(socket, 'close');
  }
  expect(await client.call(CHECK, Buffer.alloc(0))).toMatchObject({ code: 'OK' });
});

test.each([
  ['that begins calls only to reset them', resetCalls(1, 500)],
  ['whose message comes in frames of one byte', callInTinyFrames(1, 200_000)],
])('a sender %s loses its connection, and nothing stays reserved', async (_, bytes) => {
  const socket = connect(port, '127.0.0.1');
  socket
    .on('error', () => {})
    .resume()
    .write(PREFACE);
  socket.write(bytes);
  await once(socket, 'close');
  await nothingIsHeld();
});

test('the spans and refusals of gRPC are in the metrics, and nothing stays reserved', async () => {
  await nothingIsHeld();
  const metrics = await (await fetch(`${collector.adminUrl}/metrics`)).text();
  expect(Number(/^otelcol_receiver_accepted_spans_total\{receiver="otlp",transport="grpc"\} (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThan(
    14_000,
  );
  expect(metrics).toMatch(/^hive_collector_refused_requests_total\{status="413"\} \d+$/m);
});

describe('a connection', () => {
  test('is asked to end at MAX_CONNECTION_AGE_MS; a call in hand is answered first, and stored', async () => {
    const { collector: ageing, port: itsPort } = await startWithGrpc({ MAX_CONNECTION_AGE_MS: '1000' });
    await using _ = ageing;
    const payload = gatewayProtobuf({ spans: 3, seed: nextSeed++ });
    const bytes = frame(payload.body);
    using call = rawCall(itsPort);
    call.write(bytes.subarray(0, 100));

    await call.goAway;
    call.end(bytes.subarray(100));
    expect(await call.answer).toMatchObject({ 'grpc-status': '0' });
    expect(await spansStored(payload)).toBe(3);
    await until(async () => (await ageing.metrics()).get('hive_collector_connections') === 0, 'the connection has ended');
  });

  test('is ended all the same when its call does not end in the time it has', async () => {
    const { collector: ageing, port: itsPort } = await startWithGrpc({
      GRPC_MAX_CONNECTION_AGE_MS: '500',
      REQUEST_TIMEOUT_MS: '500',
      ACK_TIMEOUT_MS: '500',
    });
    await using _ = ageing;
    using its = grpcClient(itsPort);
    const watch = its.stream(WATCH, Buffer.alloc(0));

    expect(await watch.ended).not.toBe('OK');
    expect(watch.received).toHaveLength(1);
  });

  test('ends under a sender that sends on and on, which does not notice', async () => {
    const { collector: ageing, port: itsPort } = await startWithGrpc({ GRPC_MAX_CONNECTION_AGE_MS: '200' });
    await using _ = ageing;
    using its = grpcClient(itsPort);
    const sent: Sent[] = [];
    const end = performance.now() + 2_000;
    while (performance.now() < end) sent.push(await sendOne(its));

    expect(Object.keys(outcomes(sent))).toEqual(['200']);
    await expectStoredAsAnswered(clickhouse, sent);
  });

  test('too many is closed as it comes, when there are MAX_CONNECTIONS', async () => {
    const { collector: small, port: itsPort } = await startWithGrpc({ MAX_CONNECTIONS: '3' });
    await using _ = small;
    const calls = Array.from({ length: 3 }, () => rawCall(itsPort));
    await until(async () => (await small.metrics()).get('hive_collector_connections') === 3, 'three are connected');
    const oneTooMany = connect(itsPort, '127.0.0.1');
    await once(oneTooMany.on('error', () => {}).resume(), 'close');

    expect((await small.metrics()).get('hive_collector_dropped_connections_total')).toBe(1);
    expect(await small.ready()).toBe(200);
    for (const call of calls) call[Symbol.dispose]();
  });
});

async function nothingIsHeld(): Promise<void> {
  await until(async () => {
    const metrics = await collector.metrics();
    return metrics.get('hive_collector_requests_in_hand') === 0 && metrics.get('hive_collector_memory_used_bytes') === 0;
  }, 'no request is in hand, and no memory reserved');
}

describe('health', () => {
  const [SERVING, NOT_SERVING, SERVICE_UNKNOWN] = [1, 2, 3].map((status) => Buffer.from([8, status]));

  test('is told of the server, of the service, and of no other', async () => {
    expect(await client.call(CHECK, Buffer.alloc(0))).toMatchObject({ code: 'OK', response: SERVING });
    expect(await client.call(CHECK, service('opentelemetry.proto.collector.trace.v1.TraceService'))).toMatchObject({
      code: 'OK',
      response: SERVING,
    });
    expect(await client.call(CHECK, service('other'))).toMatchObject({ code: 'NOT_FOUND' });
    expect(await client.call(CHECK, Buffer.from([5]))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('follows readiness; while ClickHouse is away, exports are UNAVAILABLE, and told when to come back', async () => {
    await using own = await startClickHouse({ systemLogs: false });
    const { collector: watched, port: itsPort } = await startWithGrpc({}, own);
    await using _ = watched;
    using its = grpcClient(itsPort);
    const health = its.stream(WATCH, Buffer.alloc(0));
    const other = its.stream(WATCH, service('other'));
    await until(() => health.received.length === 1, 'the first status is told');

    await own.kill();
    // Finds out, and is refused itself or not.
    await its.call(EXPORT, gatewayProtobuf({ spans: 1, seed: nextSeed++ }).body);
    await until(() => health.received.length === 2, 'it is not serving');
    const payload = gatewayProtobuf({ spans: 7, seed: nextSeed++ });
    expect(await its.call(EXPORT, payload.body)).toMatchObject({
      code: 'UNAVAILABLE',
      retryAfterSeconds: 2,
      message: expect.stringContaining('ClickHouse'),
    });
    expect(await its.call(CHECK, Buffer.alloc(0))).toMatchObject({ response: NOT_SERVING });

    await own.restart();
    await until(() => health.received.length === 3, 'it is serving again');
    expect(await its.call(EXPORT, payload.body)).toMatchObject({ code: 'OK' });
    expect(await storedRows(own, payload.traceIds)).toHaveLength(7);

    expect(await watched.stop()).toMatchObject({ code: 0, signal: null });
    expect(await health.ended).toBe('UNAVAILABLE');
    expect(health.received).toEqual([SERVING, NOT_SERVING, SERVING, NOT_SERVING]);
    expect(other.received).toEqual([SERVICE_UNKNOWN]);
  });
});

describe('asked to stop', () => {
  test('it finishes the call whose message is still on its way, lets no other in, and says good-bye', async () => {
    const { collector: stopping, port: itsPort } = await startWithGrpc();
    await using _ = stopping;
    using its = grpcClient(itsPort);
    const payload = gatewayProtobuf({ spans: 7, seed: nextSeed++ });
    const bytes = frame(payload.body);
    using inHand = rawCall(itsPort);
    inHand.write(bytes.subarray(0, 100));
    await until(async () => (await stopping.metrics()).get('hive_collector_requests_in_hand') === 1, 'the call is in hand');

    stopping.signal('SIGTERM');
    await until(async () => (await stopping.ready()) === 503, 'the collector shuts down');
    expect(await its.call(EXPORT, payload.body)).toMatchObject({
      code: 'UNAVAILABLE',
      retryAfterSeconds: 1,
      message: expect.stringContaining('shutting down'),
    });
    inHand.end(bytes.subarray(100));

    expect(await inHand.answer).toMatchObject({ 'grpc-status': '0' });
    await inHand.goAway;
    expect(await stopping.exited).toMatchObject({ code: 0, signal: null });
    expect(await spansStored(payload)).toBe(7);
  });

  test('under load, everybody in hand gets an answer, and what is answered OK is stored once', async () => {
    const { collector: stopping, port: itsPort } = await startWithGrpc();
    await using _ = stopping;
    const sent: Sent[] = [];
    const acknowledged = () => outcomes(sent)[200] ?? 0;
    const ended = new AbortController();
    const senders = Array.from({ length: 12 }, async () => {
      using its = grpcClient(itsPort);
      while (!ended.signal.aborted) {
        sent.push(await sendOne(its));
        if (sent.at(-1)?.outcome !== 200) await delay(100);
      }
    });
    await until(() => acknowledged() > 200, 'the load runs');

    const signalledAtMs = performance.now();
    const exit = await stopping.stop();
    ended.abort();
    await Promise.all(senders);

    expect(exit).toMatchObject({ code: 0, signal: null });
    await expectStoredAsAnswered(clickhouse, sent);
    const inHand = sent.filter(({ sentAtMs }) => sentAtMs < signalledAtMs);
    expect(Object.keys(outcomes(inHand)).filter((outcome) => outcome !== '200' && outcome !== '503')).toEqual([]);
    expect(Object.keys(outcomes(sent)).filter((outcome) => !['200', '503', 'UNAVAILABLE'].includes(outcome))).toEqual([]);
  });
});

/** Its outcome in the words of HTTP; UNAVAILABLE is the client's own word for finding nobody. */
async function sendOne(its: GrpcClient): Promise<Sent> {
  const { body, traceIds } = gatewayProtobuf({ spans: 2 * SPANS_PER_TRACE, seed: 5_000_000 + nextSeed++ });
  const sentAtMs = performance.now();
  const { code, retryAfterSeconds } = await its.call(EXPORT, body);
  const refusedByCollector = code === 'UNAVAILABLE' && retryAfterSeconds !== undefined;
  return { traceIds, outcome: code === 'OK' ? 200 : refusedByCollector ? 503 : code, retryAfter: retryAfterSeconds?.toString(), sentAtMs };
}

/** A HealthCheckRequest. */
function service(name: string): Buffer {
  return Buffer.concat([Buffer.from([10, name.length]), Buffer.from(name)]);
}

function someSpans(count: number): ReadableSpan[] {
  const memory = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'a service', 'process.pid': 7 }),
    spanProcessors: [new SimpleSpanProcessor(memory)],
  });
  const tracer = provider.getTracer('grpc', '1.2.3');
  for (let index = 0; index < count; index++) {
    const span = tracer.startSpan(`span ${index}`, {
      kind: index % 2 === 0 ? SpanKind.SERVER : SpanKind.CLIENT,
      attributes: { index, text: 'grüße', flag: true, ratio: index / 7, list: ['a', 'b'] },
    });
    span.addEvent('an event', { index });
    if (index % 3 === 0) span.setStatus({ code: SpanStatusCode.ERROR, message: 'it broke' });
    span.end();
  }
  return memory.getFinishedSpans();
}

/** @throws when the exporter could not deliver them */
async function exportAll(exporter: SpanExporter, spans: ReadableSpan[]): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  exporter.export(spans, (result) => resolve(result));
  expect(await promise).toEqual({ code: 0 });
  await exporter.shutdown();
}

/** A gzip of so many MB of zeros, of about a thousandth of their size; without the checksum at its end, which nobody should get to. */
function bomb(megabytes: number): Buffer {
  const header = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
  const block = deflateRawSync(Buffer.alloc(1024 ** 2), { finishFlush: constants.Z_FULL_FLUSH });
  return Buffer.concat([header, ...Array.from({ length: megabytes }, () => block)]);
}

/** The most memory that a process has had at once. */
function peakMemoryMb(pid: number): number {
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}
