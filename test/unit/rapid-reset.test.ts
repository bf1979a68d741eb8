import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Config } from '../../src/config/variables.ts';
import type { GrpcHealth } from '../../src/grpc/grpc-health.ts';
import { GrpcServer } from '../../src/grpc/grpc-server.ts';
import type { TraceExport } from '../../src/grpc/trace-export.ts';
import type { RefusalLog } from '../../src/ingest/refusal-log.ts';
import { PREFACE, malformedCalls, resetCalls } from '../support/clients/http2-frames.ts';

/* How many calls Node makes of what a connection sends, and how many of them anybody looks at. Each takes its time of the event loop. */

let begun = 0;
let exported = 0;
const traces = { export: async () => (exported++, Buffer.alloc(0)) } as unknown as TraceExport;
const config = {
  CORS_ALLOWED_ORIGINS: [] as readonly string[],
  DISABLE_AUTH: false,
  GRPC_MAX_CONNECTION_AGE_MS: 0,
  REQUEST_TIMEOUT_MS: 1_000,
  ACK_TIMEOUT_MS: 1_000,
} as Config;
const { server } = new GrpcServer(config, traces, { close() {} } as GrpcHealth, {} as RefusalLog);

beforeAll(async () => {
  server.on('session', (session) => session.on('stream', () => begun++));
  await once(server.listen(0, '127.0.0.1'), 'listening');
});
beforeEach(() => {
  begun = 0;
  exported = 0;
});
afterAll(() => void server.close());

async function open(): Promise<Socket> {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => {}).resume();
  await once(socket, 'connect');
  return socket;
}

/** Sends the same over so many connections at the same moment, and waits for the end of all. */
async function untilCut(connections: number, bytes: Buffer): Promise<void> {
  const sockets = await Promise.all(Array.from({ length: connections }, open));
  const closed = sockets.map((socket) => once(socket, 'close'));
  for (const socket of sockets) socket.write(Buffer.concat([PREFACE, bytes]));
  await Promise.all(closed);
}

test.each([1, 20, 100])(
  'of %i connections that begin and reset a thousand calls each, hardly any call is made, and none is looked at',
  async (connections) => {
    await untilCut(connections, resetCalls(1, 1_000));
    // Parsed to the end, a read of 64 KB makes 300 of each connection.
    expect(begun).toBeLessThan(20 * connections);
    expect(exported).toBe(0);
  },
);

test('a sender that begins as many calls at once as it may is served', async () => {
  const socket = await open();
  socket.write(Buffer.concat([PREFACE, malformedCalls(1, 100)]));
  await expect.poll(() => exported).toBe(100);
  expect(socket.destroyed).toBe(false);
  socket.destroy();
});

test('a sender that resets a few calls as they begin keeps its connection', async () => {
  const socket = await open();
  socket.write(Buffer.concat([PREFACE, resetCalls(1, 10), malformedCalls(21, 5)]));
  await expect.poll(() => exported).toBe(5);
  expect(begun).toBe(15);
  expect(socket.destroyed).toBe(false);
  socket.destroy();
});
