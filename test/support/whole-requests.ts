import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Answer } from '../../src/server/answer.ts';
import { type FastPath, PortServer } from '../../src/server/port-server.ts';
import type { WholeRequest } from '../../src/server/whole-request.ts';
import { Random } from './random.ts';
import { randomConnection, randomPieces } from './random-http.ts';

const AT_ONCE = 20;
/** What has no answer by then is half a request. */
const ANSWERED_WITHIN_MS = 100;

/** What was made of a request, as text. */
function told(headers: IncomingHttpHeaders, pieces: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha1');
  for (const piece of pieces) hash.update(piece);
  const { authorization, 'content-encoding': encoding, 'content-type': type, 'x-hive-target-ref': target, 'x-request-id': id } = headers;
  return Buffer.from(JSON.stringify([authorization, encoding, type, target, id, hash.digest('hex')]));
}

/** A way past the router that answers what it was told. */
export class Told implements FastPath {
  readonly takesWhole: boolean;
  /** Requests taken whole, and by way of node:http. */
  whole = 0;
  http = 0;
  readonly expects: () => boolean | Promise<boolean>;

  constructor(takesWhole: boolean, expects: () => boolean | Promise<boolean> = () => true) {
    this.takesWhole = takesWhole;
    this.expects = expects;
  }

  takes({ url, method, headers }: IncomingMessage): boolean {
    return url === '/v1/traces' && method === 'POST' && headers.origin === undefined;
  }

  async answer({ headers, pieces }: WholeRequest): Promise<Answer> {
    this.whole++;
    // By then others have come: its bytes must still be its own.
    await delay(1);
    const body = told(headers, pieces);
    return { status: 200, headers: { 'content-type': 'application/json', 'content-length': String(body.length) }, body };
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.http++;
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    await once(request, 'end').catch(() => {});
    if (!request.complete) return;
    const body = told(request.headers, pieces);
    response.writeHead(200, ['content-type', 'application/json', 'content-length', String(body.length)]).end(body.toString());
  }
}

interface ToldPort {
  readonly path: Told;
  readonly port: PortServer;
  readonly number: number;
}

async function startPort(takesWhole: boolean): Promise<ToldPort> {
  const port = new PortServer('otlp', (request, response) => request.resume().once('end', () => response.writeHead(404, ['content-length', '0']).end()));
  const path = new Told(takesWhole);
  port.fastPath = path;
  await once(port.server.listen(0, '127.0.0.1'), 'listening');
  return { port, path, number: (port.server.address() as AddressInfo).port };
}

/** Sends a connection's bytes, and then ends it. @returns all that comes back, without the dates */
async function exchange(number: number, requests: readonly Buffer[], seed: number): Promise<string> {
  const random = new Random(seed);
  const waitsForAnswers = random.chance(0.7);
  const socket = connect({ port: number, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  let received = '';
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.setEncoding('latin1').on('data', (text: string) => (received += text)).on('error', () => {});
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
  // In which of its mistakes a request is caught depends on where the connection ends.
  const [answers, refusal] = received.replaceAll(/^date: .*\r\n/gim, '').split('HTTP/1.1 400 Bad Request');
  return refusal === undefined ? answers : `${answers}400 ${/content-type: .*/.exec(refusal)?.[0]} ${refusal.includes('not valid HTTP/1.1')}`;
}

/** Sends random connections, from this seed on, to a port that takes whole requests and to one that leaves all to Node. */
export async function expectSameAnswers(firstSeed: number, connections: number): Promise<void> {
  const [whole, http] = await Promise.all([true, false].map(startPort));
  let answers = 0;
  for (let seed = firstSeed; seed < firstSeed + connections; seed += AT_ONCE) {
    await Promise.all(
      Array.from({ length: AT_ONCE }, async (_, index) => {
        const requests = randomConnection(new Random(seed + index));
        const [one, other] = await Promise.all([exchange(whole.number, requests, seed + index), exchange(http.number, requests, seed + index)]);
        expect(one, `SEED=${seed + index}`).toBe(other);
        answers += one.split('HTTP/1.1 200').length - 1;
      }),
    );
  }
  expect(http.path.whole).toBe(0);
  // The comparison says something only if both ways are gone.
  expect(whole.path.whole).toBeGreaterThan(answers * 0.2);
  expect(whole.path.whole).toBeLessThan(answers * 0.9);
  await Promise.all([whole, http].map(({ port }) => new Promise((closed) => port.server.close(closed))));
}
