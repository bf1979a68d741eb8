import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { HttpResponse } from '../../src/http/answer.ts';
import { PortServer } from '../../src/http/port-server.ts';
import { shuttingDown } from '../../src/otlp/refusal.ts';
import { expectSameAnswers, expectStoredIsAnswered, EchoHandler } from '../support/clients/plain-requests.ts';

/*
 * Requests that are read without node:http mean the same as they mean to it: the same bytes, sent to a port that reads them
 * and to one that leaves all to Node.
 */

const SEED = Number(process.env.SEED ?? 1);
const CONNECTIONS = Number(process.env.CONNECTIONS ?? 600);

test(`${CONNECTIONS} random connections are answered the same`, { timeout: 60_000 + CONNECTIONS * 100 }, () =>
  expectSameAnswers(SEED, CONNECTIONS),
);

test(`what ${CONNECTIONS} random connections store is what they are answered, each once`, { timeout: 60_000 + CONNECTIONS * 300 }, () =>
  expectStoredIsAnswered(SEED, CONNECTIONS),
);

const BODY_BYTES = 100_000;
const HEAD = `POST /v1/traces HTTP/1.1\r\nHost: collector\r\nContent-Length: ${BODY_BYTES}\r\n\r\n`;
const BODY = Buffer.alloc(BODY_BYTES, 'b');
const EMPTY_ANSWER: HttpResponse = { status: 200, headers: {}, body: Buffer.alloc(0) };

/** A port that reads plain requests. */
async function startPort(expects = true, isAsked = false): Promise<{ port: PortServer; path: EchoHandler; open: () => Promise<Socket> }> {
  const path = new EchoHandler(isAsked ? () => delay(5, expects) : () => expects);
  const port = new PortServer('otlp', (request, response) => void path.serve(request, response));
  port.readPlain(path);
  // A connection that is forgotten is found.
  port.server.keepAliveTimeout = 75_000;
  await once(port.server.listen(0, '127.0.0.1'), 'listening');
  const { port: number } = port.server.address() as AddressInfo;
  const open = async () => {
    const socket = connect({ port: number, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  };
  onTestFinished(() => {
    port.server.close();
    port.closeAllConnections();
  });
  return { port, path, open };
}

/** A connection whose request is in hand, until `answer` is resolved. */
async function startAnswering() {
  const { open, path, port } = await startPort();
  const answer = Promise.withResolvers<HttpResponse>();
  const answering = vi.spyOn(path, 'answer').mockReturnValue(answer.promise);
  const socket = await open();
  socket.write(HEAD);
  socket.write(BODY);
  await expect.poll(() => answering.mock.calls.length > 0).toBe(true);
  return { open, port, path, socket, answer, answering, request: answering.mock.calls[0][0] };
}

test('a sender that ends its side with its request is answered, and then the connection ends', { timeout: 5_000 }, async () => {
  const { open, path } = await startPort();
  const socket = await open();
  socket.write(HEAD);
  socket.end(BODY);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 200 /);
  await once(socket, 'end');
  expect(path.plain).toBe(1);
});

test('a request may come in pieces, as long as it would be let in; else node:http has it as soon as its head is there', async () => {
  for (const [expects, isAsked] of [
    [true, false],
    [false, false],
    [true, true],
    [false, true],
  ]) {
    const { open, path } = await startPort(expects, isAsked);
    const socket = await open();
    for (const piece of [HEAD.slice(0, 10), HEAD.slice(10), BODY.subarray(0, 50_000), BODY.subarray(50_000)]) {
      socket.write(piece);
      await delay(10);
    }
    expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1\.1 200 /);
    expect(path).toMatchObject({ plain: expects ? 1 : 0, http: expects ? 0 : 1 });
    socket.destroy();
  }
});

test.each(['Origin: http://localhost', 'Proxy-Connection: close'])(
  'a request with %s is left to node:http, whatever else it is',
  async (header) => {
    const { open, path } = await startPort();
    const socket = await open();
    socket.write(HEAD.replace('\r\n\r\n', `\r\n${header}\r\n\r\n`));
    socket.write(BODY);
    expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1\.1 200 /);
    expect(path).toMatchObject({ plain: 0, http: 1 });
    socket.destroy();
  },
);

test('what all connections hold of requests that are not whole is bounded', async () => {
  // Whatever is late goes to node:http: time stands still, so that none is, however busy the machine is.
  const clock = vi.spyOn(performance, 'now').mockReturnValue(performance.now());
  onTestFinished(() => clock.mockRestore());
  const { open, path } = await startPort();
  const large = HEAD.replace(String(BODY_BYTES), '1000000');
  const sockets = await Promise.all(Array.from({ length: 40 }, open));
  for (const socket of sockets) {
    socket.write(large);
    socket.write(Buffer.alloc(900_000));
  }
  await expect.poll(() => path.http > 0).toBe(true);
  expect(path.http).toBeLessThan(40);
  for (const socket of sockets) socket.write(Buffer.alloc(100_000));
  await expect.poll(() => path.http + path.plain === 40).toBe(true);
  expect(path.plain).toBeGreaterThan(10);
  for (const socket of sockets) socket.destroy();
});

test('a connection that is cut with a request behind another is over when that one is answered', async () => {
  const { port, socket, answer } = await startAnswering();
  const handOver = vi.spyOn(port, 'handOver');
  socket.write(HEAD);
  await delay(20);
  socket.resetAndDestroy();
  await delay(20);
  answer.resolve(EMPTY_ANSWER);
  await vi.waitUntil(() => port.connections === 0);
  expect(handOver).not.toBeCalled();
});

test('a request in hand is answered, though there is no room for what comes behind it: nothing is done with that', async () => {
  const { open, port, path, socket, answer, answering } = await startAnswering();
  const accepted: Socket[] = [];
  port.server.on('connection', (one: Socket) => accepted.push(one));
  const others = await Promise.all(Array.from({ length: 1_000 }, open));
  // Each has a request in hand, and then what comes behind it: read once, 64 KB of it are held.
  for (const other of others) other.on('error', () => {}).write(`${HEAD.replace(String(BODY_BYTES), '5')}spans`);
  await expect.poll(() => answering.mock.calls.length === 1 + others.length).toBe(true);
  for (const other of others) other.write(BODY);
  await expect.poll(() => accepted.every((one) => one.isPaused())).toBe(true);
  socket.write(HEAD);
  socket.write(BODY);
  await delay(20);
  answer.resolve(EMPTY_ANSWER);
  expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1\.1 200 [^]*\r\nconnection: close\r\n/);
  await once(socket, 'end');
  socket.end();
  expect(path).toMatchObject({ http: 0 });
  for (const other of others) other.destroy();
});

test('a sender that ends its side within a head is not handed over, though it leaves its last answer unread', async () => {
  const { open, path, port } = await startPort();
  const handOver = vi.spyOn(port, 'handOver');
  vi.spyOn(path, 'answer').mockResolvedValue({ ...EMPTY_ANSWER, body: Buffer.alloc(32 * 1024 * 1024) });
  const socket = await open();
  socket.write(HEAD);
  socket.write(BODY);
  await delay(50);
  socket.end('POST');
  await vi.waitUntil(() => port.connections === 0, { timeout: 5_000 });
  expect(handOver).not.toBeCalled();
});

test('a plain request is left to node:http, in full, while its sender leaves the last answer unread', async () => {
  const { open, path } = await startPort();
  const body = Buffer.alloc(32 * 1024 * 1024);
  vi.spyOn(path, 'answer').mockResolvedValue({ status: 200, headers: { 'content-length': String(body.length) }, body });
  const socket = await open();
  const request = HEAD.replace(String(BODY_BYTES), '5') + 'spans';
  for (let count = 0; count < 2; count++) {
    socket.write(request);
    await delay(50);
  }
  let received = '';
  socket.on('data', (bytes) => (received = (received + bytes.toString('latin1')).slice(-1_000)));
  await expect.poll(() => received.includes('HTTP/1.1 200')).toBe(true);
  expect(path.http).toBe(1);
  expect(received).toContain(createHash('sha1').update('spans').digest('hex'));
  socket.destroy();
});

test('a request that is refused as the collector shuts down keeps its bytes: somebody may be reading them', async () => {
  const { port, socket, answer, request } = await startAnswering();
  port.refuseAll(shuttingDown());
  expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1\.1 503 /);
  expect(Buffer.concat(request.chunks)).toEqual(BODY);
  answer.resolve(EMPTY_ANSWER);
});

test('idle connections are ended when the time that the answers tell is over, and no earlier', async () => {
  const { open, port } = await startPort();
  port.server.keepAliveTimeout = 1_000;
  const socket = await open();
  socket.write(HEAD);
  socket.write(BODY);
  expect(String((await once(socket, 'data'))[0])).toContain('\r\nKeep-Alive: timeout=1\r\n');
  const answeredAtMs = performance.now();
  await once(socket, 'end');
  expect(performance.now() - answeredAtMs).toBeGreaterThan(1_000);
  await vi.waitUntil(() => port.connections === 0);
});
