import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { errorResponse, type HttpResponse, sendError } from '../../../src/http/answer.ts';
import { PortServer } from '../../../src/http/port-server.ts';
import type { PlainHandler } from '../../../src/http/plain-connection.ts';
import type { PlainRequest } from '../../../src/http/plain-request.ts';
import { foreignOrigin, type Refusal, refusedByHive, tooLarge } from '../../../src/otlp/refusal.ts';
import { randomConnection, randomPieces } from '../generators/random-http.ts';
import { Random } from '../generators/random.ts';

const AT_ONCE = 20;
/** Attempts for an exchange in which an answer may have been lost, or depends on the time. */
const TRIES = 30;
/** A request without an answer after this time is taken to be incomplete. */
const ANSWERED_WITHIN_MS = 100;

/** A request as it was read, as text. A plain request has no request line: it is `POST /v1/traces`, without Origin. */
function echoOf(
  headers: IncomingHttpHeaders,
  pieces: readonly Uint8Array[],
  line = 'POST /v1/traces',
  { origin }: IncomingHttpHeaders = {},
): Buffer {
  const hash = createHash('sha1');
  for (const piece of pieces) hash.update(piece);
  const { authorization, 'content-encoding': encoding, 'content-type': type, 'x-hive-target-ref': target, 'x-request-id': id } = headers;
  return Buffer.from(JSON.stringify([line, origin, authorization, encoding, type, target, id, hash.digest('hex')]));
}

/** Answers each request with `echoOf` it: plain requests and those that node:http has parsed. */
export class EchoHandler implements PlainHandler {
  /** The numbers of requests that were plain, and that node:http has parsed. */
  plain = 0;
  http = 0;
  readonly expects: () => boolean | Promise<boolean>;

  constructor(expects: () => boolean | Promise<boolean> = () => true) {
    this.expects = expects;
  }

  async answer({ headers, chunks }: PlainRequest): Promise<HttpResponse> {
    this.plain++;
    // More requests come meanwhile: they must not overwrite the bytes of this one.
    await delay(1);
    const body = echoOf(headers, chunks);
    return { status: 200, headers: { 'content-type': 'application/json', 'content-length': String(body.length) }, body };
  }

  /** The listener of an http.Server. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.http++;
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    await once(request, 'end').catch(() => {});
    if (!request.complete) return;
    const body = echoOf(request.headers, pieces, `${request.method} ${request.url}`, request.headers);
    response.writeHead(200, ['content-type', 'application/json', 'content-length', String(body.length)]).end(body.toString());
  }
}

interface EchoPort {
  readonly path: EchoHandler;
  readonly port: PortServer;
  readonly number: number;
}

async function startPort(readsPlain: boolean): Promise<EchoPort> {
  const path = new EchoHandler();
  const port = new PortServer('otlp', (request, response) => void path.serve(request, response));
  if (readsPlain) port.readPlain(path);
  await once(port.server.listen(0, '127.0.0.1'), 'listening');
  return { port, path, number: (port.server.address() as AddressInfo).port };
}

/**
 * Sends the requests of one connection, and ends it.
 * @returns the answers without their dates, and whether a write failed: when the server closes the connection after an answer, answers
 *   that were received but not read yet are lost
 */
async function exchange(number: number, requests: readonly Buffer[], seed: number): Promise<{ answers: string; hasFailed: boolean }> {
  const random = new Random(seed);
  const waitsForAnswers = random.chance(0.7);
  const socket = connect({ port: number, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  let received = '';
  let hasFailed = false;
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket
    .setEncoding('latin1')
    .on('data', (text: string) => (received += text))
    .on('error', () => (hasFailed = true));
  socket.on('end', () => socket.end());
  await once(socket, 'connect');
  for (const request of waitsForAnswers ? requests : [Buffer.concat(requests)]) {
    for (const piece of randomPieces(request, random)) {
      if (!socket.writable) break;
      socket.write(piece);
      if (random.chance(0.5)) await delay(random.below(3));
    }
    if (waitsForAnswers) await Promise.race([new Promise((resolve) => socket.once('data', resolve)), closed, delay(ANSWERED_WITHIN_MS)]);
  }
  if (socket.writable) socket.end();
  await closed;
  // Which error of an invalid request is reported depends on where the connection ends.
  const [answers, refusal] = received.replaceAll(/^date: .*\r\n/gim, '').split('HTTP/1.1 400 Bad Request');
  if (refusal === undefined) return { answers, hasFailed };
  return { answers: `${answers}400 ${/content-type: .*/.exec(refusal)?.[0]} ${refusal.includes('not valid HTTP/1.1')}`, hasFailed };
}

/** Sends random connections to a port that reads plain requests and to one that leaves all to node:http. Expects the same answers. */
export async function expectSameAnswers(firstSeed: number, connections: number): Promise<void> {
  const [plain, http] = await Promise.all([true, false].map(startPort));
  const answered = await compareAnswers([plain.number, http.number], firstSeed, connections);
  const answers = answered.reduce((sum, text) => sum + text.split('["POST /v1/traces",null,').length - 1, 0);
  expect(http.path.plain).toBe(0);
  // The comparison means something only if both are used. On a busy machine, some requests arrive in parts, which are left to node:http.
  expect(plain.path.plain).toBeGreaterThan(answers * 0.05);
  expect(plain.path.plain).toBeLessThan(answers * 0.9);
  await Promise.all([plain, http].map(({ port }) => new Promise((closed) => port.server.close(closed))));
}

/**
 * Sends random connections to two ports, and expects the same answers.
 * @param isTimed whether the answers depend on how much of a body has been received: then only repeated differences count
 * @returns the answers of each connection
 */
export async function compareAnswers(
  ports: readonly [number, number],
  firstSeed: number,
  connections: number,
  isTimed = false,
): Promise<string[]> {
  const answers: string[] = [];
  const mayDiffer = (exchanges: readonly { readonly hasFailed: boolean }[]) => isTimed || exchanges.some(({ hasFailed }) => hasFailed);
  for (let seed = firstSeed; seed < firstSeed + connections; seed += AT_ONCE) {
    await Promise.all(
      Array.from({ length: AT_ONCE }, async (_, index) => {
        const requests = randomConnection(new Random(seed + index));
        const compare = () => Promise.all(ports.map((number) => exchange(number, requests, seed + index)));
        let [one, other] = await compare();
        for (let tries = 1; tries < TRIES && one.answers !== other.answers && mayDiffer([one, other]); tries++)
          [one, other] = await compare();
        expect(one.answers, `SEED=${seed + index}`).toBe(other.answers);
        answers.push(one.answers);
      }),
    );
  }
  return answers;
}

/** The Authorization that a Ledger always refuses. */
const REFUSED = 'Bearer refused';
const MAX_BODY_BYTES = 100_000;

/** Records the ids of the requests that it stores, and refuses some senders before it reads their bodies. */
class Ledger implements PlainHandler {
  readonly stored = new Set<string>();

  expects({ authorization }: IncomingHttpHeaders): boolean | Promise<boolean> {
    return authorization === 'Bearer slow' ? delay(1, true) : authorization !== REFUSED;
  }

  async answer({ headers, bodyLength }: PlainRequest): Promise<HttpResponse> {
    const refusal = await this.refusal(headers, bodyLength);
    return refusal === undefined ? this.store(headers) : errorResponse(refusal, headers['content-type']);
  }

  /** The listener of an http.Server. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const refusal = await this.refusal(request.headers, Number(request.headers['content-length'] ?? 0));
    if (refusal !== undefined) return sendError(refusal, request, response);
    request.resume();
    await once(request, 'end').catch(() => {});
    if (!request.complete || response.headersSent || response.destroyed) return;
    const { status, headers, body } = await this.store(request.headers);
    response.writeHead(status, headers).end(body);
  }

  private async refusal({ authorization }: IncomingHttpHeaders, bodyLength: number): Promise<Refusal | undefined> {
    if (authorization === 'Bearer slow') await delay(2);
    if (bodyLength > MAX_BODY_BYTES) return tooLarge(1);
    return authorization === REFUSED ? refusedByHive(403, 'Not yours.') : undefined;
  }

  private async store(headers: IncomingHttpHeaders): Promise<HttpResponse> {
    const id = String(headers['x-request-id']);
    this.stored.add(id);
    await delay(Math.random() * 3);
    const body = Buffer.from(`<${id}>`);
    return { status: 200, headers: { 'content-type': 'application/json', 'content-length': String(body.length) }, body };
  }
}

/** A random request: valid, refused, broken, or the last of its connection. */
function ledgerRequest(id: string, random: Random): Buffer {
  const body = random.bytes(random.chance(0.04) ? random.below(2 * MAX_BODY_BYTES) : random.below(3_000));
  const isChunked = random.chance(0.3);
  const headers = [
    'Host: collector',
    `Authorization: ${random.chance(0.1) ? REFUSED : random.pick(['Bearer good', 'Bearer good', 'Bearer slow'])}`,
    `X-Request-Id: ${id}`,
    'Content-Type: application/x-protobuf',
    isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`,
  ];
  if (random.chance(0.08))
    headers.push(random.pick(['Connection: close', 'Origin: http://elsewhere', 'Host: another', 'Expect: 100-continue', 'X-Padding:\t a']));
  const line = `POST /v1/traces ${random.chance(0.98) ? 'HTTP/1.1' : 'HTTP/1.0'}`;
  const framed = isChunked
    ? Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from(body.length === 0 ? '\r\n' : '\r\n0\r\n\r\n')])
    : body;
  return Buffer.concat([
    Buffer.from(`${line}\r\n${headers.join('\r\n')}\r\n\r\n`),
    framed,
    Buffer.from(random.chance(0.98) ? '' : 'garbage\r\n\r\n'),
  ]);
}

/**
 * Sends requests in pieces, without waiting for answers. Often the last bytes of a request are sent together with the next one.
 * @returns all that is received
 * @throws Error when the server keeps the connection open
 */
async function sendWithoutWaiting(number: number, requests: readonly Buffer[], random: Random): Promise<string> {
  const socket = connect({ port: number, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  let received = '';
  let isOver = false;
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket
    .setEncoding('latin1')
    .on('data', (text: string) => (received += text))
    .on('error', () => {});
  socket.on('end', () => {
    isOver = true;
    socket.end();
  });
  await once(socket, 'connect');
  const bytes = Buffer.concat(requests);
  let end = 0;
  const cuts = requests.map(({ length }) => (end += length) - (random.chance(0.5) ? random.between(0, 20) : 0));
  let at = 0;
  for (const cut of cuts) {
    for (const piece of random.chance(0.5) ? [bytes.subarray(at, cut)] : randomPieces(bytes.subarray(at, cut), random)) {
      if (isOver) break;
      socket.write(piece);
      if (random.chance(0.3)) await delay(random.below(4));
    }
    at = cut;
    if (random.chance(0.7)) await delay(random.below(20));
  }
  if (!isOver) {
    socket.write(bytes.subarray(at));
    if (random.chance(0.5)) await Promise.race([closed, delay(200)]);
    socket.end();
  }
  await Promise.race([closed, delay(10_000, undefined, { ref: false })]);
  if (!socket.closed) throw new Error('the connection does not end, though its sender has ended it');
  return received;
}

/**
 * Sends random connections that do not wait for answers. Expects that exactly the requests that are stored are answered: none is stored
 * after an answer that ends its connection.
 */
export async function expectStoredIsAnswered(firstSeed: number, connections: number): Promise<void> {
  for (const readsPlain of [true, false]) {
    const ledger = new Ledger();
    const port = new PortServer('otlp', (request, response) => void ledger.serve(request, response));
    if (readsPlain) port.readPlain(ledger);
    port.guard = ({ headers: { origin } }) => (origin === undefined ? undefined : foreignOrigin(origin));
    port.maxAgeMs = 100;
    await once(port.server.listen(0, '127.0.0.1'), 'listening');
    const { port: number } = port.server.address() as AddressInfo;
    let answered = 0;
    let asked = 0;
    const unanswered: string[] = [];
    for (let seed = firstSeed; seed < firstSeed + connections; seed += AT_ONCE) {
      await Promise.all(
        Array.from({ length: AT_ONCE }, async (_, index) => {
          const random = new Random(seed + index);
          const count = random.chance(0.05) ? 30 : random.between(1, 6);
          const ids = Array.from({ length: count }, (_none, request) => `${readsPlain}-${seed + index}-${request}`);
          const received = await sendWithoutWaiting(
            number,
            ids.map((id) => ledgerRequest(id, random)),
            random,
          );
          asked += count;
          for (const id of ids) {
            const answers = received.split(`<${id}>`).length - 1;
            answered += answers;
            if (answers !== Number(ledger.stored.has(id))) unanswered.push(`SEED=${seed + index}: ${id} has ${answers} answers`);
          }
        }),
      );
    }
    expect(unanswered).toEqual([]);
    // The check means something only if some requests are answered and others come too late.
    expect(answered).toBeGreaterThan(asked * 0.15);
    expect(answered).toBeLessThan(asked * 0.8);
    port.closeAllConnections();
    await new Promise((resolve) => port.server.close(resolve));
  }
}
