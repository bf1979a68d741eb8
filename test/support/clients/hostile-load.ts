import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { hostileJson, hostileProtobuf } from '../generators/hostile-bodies.ts';
import { gatewayProtobuf } from '../generators/payloads.ts';
import { bytesField, messageField, stringField } from '../generators/wire.ts';
import type { TestClickHouse } from '../servers/clickhouse.ts';
import { type Collector, type Environment, startCollector } from '../servers/collector.ts';
import { freePorts } from '../servers/free-ports.ts';
import { callInTinyFrames, PREFACE, malformedCalls, resetCalls } from './http2-frames.ts';
import { type Headers, JSON_TYPE, PROTOBUF_TYPE, send } from './otlp-client.ts';

/*
 * Hostile loads. Each runs for a few seconds, and ends when all its connections have ended. Loads do not check the answers: tests check
 * the collector during the load and after it.
 */

export const MEM_BUFFER_SIZE_MB = 128;

/** Starts a collector with little memory and a short REQUEST_TIMEOUT_MS. */
export async function startForHostileLoad(clickhouse: TestClickHouse, env: Environment = {}): Promise<Collector> {
  const [grpcPort] = await freePorts(1);
  return startCollector({
    clickhouse,
    env: {
      GRPC_PORT: String(grpcPort),
      MEM_BUFFER_SIZE_MB: String(MEM_BUFFER_SIZE_MB),
      REQUEST_TIMEOUT_MS: '3000',
      LOG_LEVEL: 'warn',
      ...env,
    },
  });
}

/** Sends its load to the collector. Resolves when the load has ended. */
export type HostileLoad = (collector: Collector) => Promise<unknown>;

const MB = 1024 ** 2;
/** How long a load sends at most. */
const DURATION_MS = 4_000;

export const hostileLoads: Readonly<Record<string, HostileLoad>> = {
  'nothing, for comparison': () => delay(DURATION_MS),
  'Protobuf nested 100,000 deep, 8 at a time': (collector) => bodies(collector, 8, () => nestedProtobuf(100_000)),
  'JSON nested 20 million deep, 4 at a time': (collector) => bodies(collector, 4, () => nestedJson(20 * MB), JSON_TYPE),
  'a million attributes, Protobuf': (collector) => bodies(collector, 2, () => attributes(1_000_000)),
  'a million attributes, JSON': (collector) => bodies(collector, 2, () => jsonAttributes(1_000_000), JSON_TYPE),
  'a million tiny spans': (collector) => bodies(collector, 2, () => tinySpans(1_000_000)),
  'half a megabyte of spans, 40 times': (collector) => bodies(collector, 40, () => tinySpans(17_000)),
  'half a megabyte of empty spans, 40 times': (collector) => bodies(collector, 40, () => spans(repeated(messageField(2, []), 500_000))),
  'doubles of 300 digits, 12 bodies of 8 MB': (collector) => bodies(collector, 12, () => hostileProtobuf['doubles of 300 digits'](8 * MB)),
  'control characters, 12 bodies of 8 MB': (collector) =>
    bodies(collector, 12, () => hostileProtobuf['control characters in an array'](8 * MB)),
  'bytes that become hex, 12 bodies of 8 MB': (collector) => bodies(collector, 12, () => hostileProtobuf['long bytes'](8 * MB)),
  'kvlists of a million members, 12 bodies of 8 MB': (collector) =>
    bodies(collector, 12, () => hostileJson['one long kvlist'](8 * MB), JSON_TYPE),
  'a string of 60 MB': (collector) => bodies(collector, 2, () => longString(Buffer.alloc(60 * MB, 'a'))),
  'a string of 60 MB that does not compress': (collector) => bodies(collector, 2, () => longString(randomBytes(60 * MB))),
  'a string of 60 MB, JSON': (collector) =>
    bodies(
      collector,
      2,
      () => Buffer.concat([Buffer.from('{"resourceSpans":[{"schemaUrl":"'), Buffer.alloc(60 * MB, 'a'), Buffer.from('"}]}')]),
      JSON_TYPE,
    ),
  'gzip bombs, 64 at a time': (collector) => bombs(collector, 'gzip', gzipSync(spaces())),
  'deflate bombs, 64 at a time': (collector) => bombs(collector, 'deflate', deflateSync(spaces())),
  'zstd bombs, 64 at a time': (collector) => bombs(collector, 'zstd', zstdCompressSync(spaces())),
  'zstd bombs with a window of 128 MB, 64 at a time': (collector) =>
    bombs(
      collector,
      'zstd',
      zstdCompressSync(spaces(), { params: { [constants.ZSTD_c_windowLog]: 27, [constants.ZSTD_c_contentSizeFlag]: 0 } }),
    ),
  '10,000 idle connections': (collector) => idleConnections(collector, 10_000),
  '10,000 idle connections of gRPC': (collector) => idleConnections(collector, 10_000, collector.grpcPort),
  'answers that nobody reads, 200 connections': (collector) => {
    const request = Buffer.from(`${head({ 'content-length': '1', ...JSON_TYPE })}\r\n!`);
    const many = Buffer.alloc(request.length * 500, request);
    return connections(collector, 200, (socket) => flood(socket.pause(), () => many, 60 * MB, ''));
  },
  'headers a byte at a time, 500 connections': (collector) =>
    connections(collector, 500, (socket) => trickle(socket, Buffer.from(`${head({})}X-Slow: ${'x'.repeat(1_000)}`), 1, 50)),
  'bodies a byte at a time, 500 connections': (collector) =>
    connections(collector, 500, async (socket) => {
      socket.write(`${head({ 'content-length': '100000' })}\r\n`);
      await trickle(socket, Buffer.alloc(1_000), 1, 50);
    }),
  '20,000 requests pipelined on 4 connections': (collector) => connections(collector, 4, (socket) => pipelined(socket, 5_000)),
  'headers of 16 MB': (collector) =>
    connections(collector, 20, (socket) =>
      flood(socket, () => Buffer.from(`X-${Math.random()}: ${'x'.repeat(1_000)}\r\n`), 16 * MB, head({})),
    ),
  '200 clients that each trickle a body of 60 MB': (collector) =>
    connections(collector, 200, async (socket) => {
      socket.write(`${head({ 'content-length': String(60 * MB) })}\r\n`);
      await trickle(socket, Buffer.alloc(60 * MB), 256 * 1024, 50);
    }),
  '1,000 clients that vanish in the middle of a body': (collector) =>
    connections(collector, 1_000, async (socket) => {
      socket.write(`${head({ 'content-length': '200000' })}\r\n`);
      socket.write(Buffer.alloc(100_000));
      await delay(Math.random() * 500);
      socket.resetAndDestroy();
    }),
  'endless bodies in chunks, 50 connections': (collector) =>
    connections(collector, 50, (socket) =>
      flood(socket, () => chunk(64 * 1024), Infinity, `${head({ 'transfer-encoding': 'chunked' })}\r\n`),
    ),
  'bodies in chunks of one byte, 8 connections': (collector) => {
    const piece = Buffer.from('1\r\n \r\n'.repeat(10_000));
    return connections(collector, 8, (socket) =>
      flood(socket, () => piece, 60 * MB, `${head({ 'transfer-encoding': 'chunked', ...JSON_TYPE })}\r\n`),
    );
  },
  'calls of gRPC whose answers nobody reads, 20 connections': (collector) =>
    grpcConnections(collector, (socket) =>
      flood(
        socket.pause(),
        counted((first) => malformedCalls(first, 200), 400),
        60 * MB,
        PREFACE,
      ),
    ),
  'calls of gRPC that are reset at once, 20 connections': (collector) =>
    grpcConnections(collector, (socket) =>
      flood(
        socket,
        counted((first) => resetCalls(first, 200), 400),
        60 * MB,
        PREFACE,
      ),
    ),
  'messages of gRPC in frames of one byte, 20 connections': (collector) =>
    grpcConnections(collector, (socket) =>
      flood(
        socket,
        counted((stream) => callInTinyFrames(stream, 200_000), 2),
        60 * MB,
        PREFACE,
      ),
    ),
};

// ── Bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────

const TRACE_ID = bytesField(1, Buffer.alloc(16, 1));
const SPAN_ID = bytesField(2, Buffer.alloc(8, 1));

function spans(encoded: Buffer): Buffer {
  return messageField(1, [messageField(2, [encoded])]);
}

function span(fields: Buffer): Buffer {
  return spans(messageField(2, [TRACE_ID, SPAN_ID, fields]));
}

function tinySpans(count: number): Buffer {
  return spans(repeated(messageField(2, [TRACE_ID, SPAN_ID]), count * 30));
}

function longString(bytes: Buffer): Buffer {
  return span(messageField(9, [stringField(1, 'k'), messageField(2, [bytesField(7, bytes)])]));
}

function attributes(count: number): Buffer {
  const one = messageField(9, [stringField(1, 'key 0000000'), messageField(2, [stringField(1, 'v')])]);
  const all = repeated(one, count * one.length);
  const digitsAt = one.indexOf('0000000');
  for (let index = 0; index < count; index++) all.write(String(index).padStart(7, '0'), index * one.length + digitsAt, 'latin1');
  return span(all);
}

function jsonAttributes(count: number): Buffer {
  const list = Array.from({ length: count }, (_, index) => `{"key":"k${index}","value":{"intValue":1}}`).join(',');
  return Buffer.from(
    `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"${'01'.repeat(16)}","spanId":"${'01'.repeat(8)}","attributes":[${list}]}]}]}]}`,
  );
}

/** Built from the inside: the only value of each array is the one made before it. */
function nestedProtobuf(depth: number): Buffer {
  const heads: Buffer[] = [];
  let length = 0;
  const wrap = (tag: number) => {
    const header = bytesHeader(tag, length);
    heads.push(header);
    length += header.length;
  };
  for (let level = 0; level < depth; level++) {
    wrap(1); // values of an ArrayValue
    wrap(5); // array_value of an AnyValue
  }
  return span(messageField(9, [stringField(1, 'k'), messageField(2, [Buffer.concat(heads.toReversed())])]));
}

function bytesHeader(field: number, length: number): Buffer {
  const bytes = [field * 8 + 2];
  let rest = length;
  for (; rest > 127; rest >>>= 7) bytes.push((rest & 127) | 128);
  return Buffer.from([...bytes, rest]);
}

function nestedJson(bytes: number): Buffer {
  return Buffer.concat([
    Buffer.from('{"resourceSpans":[{"unknown":'),
    Buffer.alloc(bytes / 2, '['),
    Buffer.alloc(bytes / 2, ']'),
    Buffer.from('}]}'),
  ]);
}

function repeated(piece: Buffer, bytes: number): Buffer {
  return Buffer.alloc(bytes - (bytes % piece.length), piece);
}

function spaces(): Buffer {
  return Buffer.alloc(60 * MB, ' ');
}

function bodies(collector: Collector, count: number, make: () => Buffer, headers: Headers = PROTOBUF_TYPE): Promise<unknown> {
  const body = make();
  return Promise.all(Array.from({ length: count }, () => collector.send(body, headers)));
}

function bombs(collector: Collector, encoding: string, bomb: Buffer): Promise<unknown> {
  return bodies(collector, 64, () => bomb, { ...JSON_TYPE, 'content-encoding': encoding });
}

// ── Connections ──────────────────────────────────────────────────────────────────────────────────────────────────

/** The head of a request, without the empty line at its end. */
function head(headers: Headers): string {
  const lines = Object.entries({ host: 'collector', 'x-hive-target-ref': 'target-1', ...headers }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  return `POST /v1/traces HTTP/1.1\r\n${lines.join('')}`;
}

/** Opens connections, calls `use` with each, and closes it afterwards. */
async function connections(
  collector: Collector,
  count: number,
  use: (socket: Socket) => Promise<unknown>,
  port = Number(new URL(collector.url).port),
): Promise<void> {
  await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = connect(port, '127.0.0.1');
      socket
        .setMaxListeners(0)
        .on('error', () => {})
        .resume();
      await Promise.race([once(socket, 'connect'), once(socket, 'close')]).catch(() => {});
      await use(socket);
      socket.destroy();
    }),
  );
}

function grpcConnections(collector: Collector, use: (socket: Socket) => Promise<unknown>): Promise<void> {
  return connections(collector, 20, use, collector.grpcPort);
}

/** Makes one piece after the other. The first begins with stream number 1, each next one `step` numbers later. */
function counted(make: (stream: number) => Buffer, step: number): () => Buffer {
  let next = 1 - step;
  return () => make((next += step));
}

/** Sends `bytes` in pieces with pauses, for at most DURATION_MS. */
async function trickle(socket: Socket, bytes: Buffer, pieceBytes: number, pauseMs: number): Promise<void> {
  const end = performance.now() + DURATION_MS;
  for (let at = 0; at < bytes.length && performance.now() < end && !socket.destroyed; at += pieceBytes) {
    if (!socket.writableNeedDrain) socket.write(bytes.subarray(at, at + pieceBytes));
    await delay(pauseMs);
  }
}

/** Sends pieces as fast as the collector reads: `bytes` in all, for at most DURATION_MS. */
async function flood(socket: Socket, piece: () => Buffer, bytes: number, first: string | Buffer): Promise<void> {
  const end = performance.now() + DURATION_MS;
  socket.write(first);
  for (let sent = 0; sent < bytes && performance.now() < end && !socket.destroyed;) {
    const next = piece();
    sent += next.length;
    if (!socket.write(next)) await sendable(socket);
  }
}

/** Resolves when the socket can send more or is closed, after DURATION_MS at the latest. */
function sendable(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, DURATION_MS);
    socket.on('drain', done).on('close', done);
    function done(): void {
      clearTimeout(timer);
      socket.off('drain', done).off('close', done);
      resolve();
    }
  });
}

function chunk(bytes: number): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.toString(16)}\r\n`), Buffer.alloc(bytes, ' '), Buffer.from('\r\n')]);
}

async function pipelined(socket: Socket, count: number): Promise<void> {
  const { body } = gatewayProtobuf({ spans: 2, seed: 1 });
  const request = Buffer.concat([Buffer.from(`${head({ 'content-length': String(body.length) })}\r\n`), body]);
  socket.write(Buffer.alloc(request.length * count, request));
  const received = { answers: 0 };
  socket.on('data', (bytes: Buffer) => (received.answers += bytes.toString('latin1').split('HTTP/1.1 ').length - 1));
  const end = performance.now() + 5 * DURATION_MS;
  while (received.answers < count && performance.now() < end && !socket.destroyed) await delay(20);
}

async function idleConnections(collector: Collector, count: number, port?: number): Promise<void> {
  const inTurn = 500;
  const all: Promise<void>[] = [];
  for (let opened = 0; opened < count; opened += inTurn) {
    all.push(connections(collector, inTurn, (socket) => (port === undefined ? delay(DURATION_MS) : idleSession(socket)), port));
    await delay(50);
  }
  // The health port must answer meanwhile.
  await send(`${collector.adminUrl}/health`, '', { method: 'GET' });
  await Promise.all(all);
}

/** Sends the preface of HTTP/2 (RFC 9113, 3.4), and nothing after it. */
async function idleSession(socket: Socket): Promise<void> {
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  await delay(DURATION_MS);
}
