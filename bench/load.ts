import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { gatewayProtobuf, hiveGatewayBatch } from '../test/support/generators/payloads.ts';
import { ownCpuSeconds } from './process-usage.ts';

/*
 * The load generator: a separate process with plain sockets, so that it uses as little as possible of the cores that it shares with the
 * measured program. `node bench/load.ts '{"port":4318,…}'` prints one JSON object.
 */

export interface LoadOptions {
  readonly port: number;
  readonly encoding: 'protobuf' | 'json';
  readonly spansPerRequest: number;
  readonly connections: number;
  readonly seconds: number;
  /** Requests per second over all connections; without it, each connection sends its next request after the answer. */
  readonly rate?: number;
  /** Targets that the requests alternate between; 1 by default. */
  readonly targets?: number;
  /** Additional header lines. */
  readonly headers?: readonly string[];
}

export interface LoadResult {
  readonly requests: number;
  readonly acknowledgedSpans: number;
  readonly refused: number;
  /** Status and text of the first answer other than 200. */
  readonly firstRefusal?: string;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU time of the load generator itself, including its start. */
  readonly cpuSeconds: number;
}

/** Number of different bodies, which are sent in turn: repeating a single one would give caches an unrealistic advantage. */
export const BODIES = 32;

/** A whole HTTP request; JSON chunked and without a length, as Hive Gateway sends it. */
export function requestBytes(options: LoadOptions, index: number): Buffer {
  const make = options.encoding === 'json' ? hiveGatewayBatch : gatewayProtobuf;
  const { body } = make({ spans: options.spansPerRequest, seed: 1 + (index % BODIES) });
  const head = [
    'POST /v1/traces HTTP/1.1',
    'Host: 127.0.0.1',
    `X-Hive-Target-Ref: bench/bench/${index % (options.targets ?? 1)}`,
    'Authorization: Bearer bench',
    ...(options.headers ?? []),
  ];
  if (options.encoding === 'protobuf') {
    return Buffer.concat([
      Buffer.from([...head, 'Content-Type: application/x-protobuf', `Content-Length: ${body.length}`, '', ''].join('\r\n')),
      body,
    ]);
  }
  const pieces: Buffer[] = [Buffer.from([...head, 'Content-Type: application/json', 'Transfer-Encoding: chunked', '', ''].join('\r\n'))];
  for (let at = 0; at < body.length; at += 65_536) {
    const piece = body.subarray(at, at + 65_536);
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'));
  }
  return Buffer.concat([...pieces, Buffer.from('0\r\n\r\n')]);
}

/** Wait before the next connection, when an answer has closed one. */
const BACK_OFF_MS = 100;
/** Characters of an answer's text that are reported. */
const LONGEST_REASON = 120;

interface Answer {
  readonly status: number;
  /** The unparsed text. */
  readonly text: string;
  /** Whether the connection is closed after it: the request was refused before its body was read. */
  readonly isLast: boolean;
}

/** Sends one request and resolves with its answer, which fits into one packet. @throws Error when there is none */
async function send(socket: Socket, bytes: Buffer): Promise<Answer> {
  socket.write(bytes);
  const closed = new AbortController();
  const onClose = () => closed.abort();
  socket.once('close', onClose);
  const [answer] = (await once(socket, 'data', { signal: closed.signal }).catch((cause: unknown) => {
    throw new Error('A connection was closed without an answer.', { cause });
  })) as [Buffer];
  socket.off('close', onClose);
  const text = answer.toString('latin1');
  return { status: Number(text.slice(9, 12)), text, isLast: /\nconnection: close\r/i.test(text) };
}

/** The readable text of an answer's body, which may be in chunks, or Protobuf. */
function readable(answer: string): string {
  const body = answer.slice(answer.indexOf('\r\n\r\n') + 2);
  const whole = /^transfer-encoding: chunked\r/im.test(answer) ? body.replaceAll(/\r\n[0-9a-f]+\r\n/gi, ' ') : body;
  return whole
    .replaceAll(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, LONGEST_REASON);
}

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1').setNoDelay(true);
  await once(socket, 'connect');
  return socket;
}

async function run(options: LoadOptions): Promise<LoadResult> {
  const requests = Array.from({ length: Math.max(BODIES, options.targets ?? 1) }, (_, index) => requestBytes(options, index));
  const latencies: number[] = [];
  let sent = 0;
  let acknowledged = 0;
  let firstRefusal: string | undefined;
  const begin = performance.now();
  const end = begin + options.seconds * 1000;

  async function connection(): Promise<void> {
    let socket = await open(options.port);
    while (performance.now() < end) {
      const number = sent++;
      if (options.rate !== undefined) {
        const due = begin + (number * 1000) / options.rate;
        if (due > end) break;
        const wait = due - performance.now();
        if (wait > 0) await sleep(wait);
      }
      const start = performance.now();
      const { status, text, isLast } = await send(socket, requests[number % requests.length]);
      latencies.push(performance.now() - start);
      if (status === 200) acknowledged++;
      else firstRefusal ??= `answered ${status} ${readable(text)}`.trim();
      if (!isLast) continue;
      socket.destroy();
      await sleep(BACK_OFF_MS);
      socket = await open(options.port);
    }
    socket.destroy();
  }

  await Promise.all(Array.from({ length: options.connections }, connection));
  const seconds = (performance.now() - begin) / 1000;
  latencies.sort((a, b) => a - b);
  const percentile = (p: number) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * p))] ?? 0;
  return {
    requests: latencies.length,
    acknowledgedSpans: acknowledged * options.spansPerRequest,
    refused: latencies.length - acknowledged,
    firstRefusal,
    seconds,
    p50Ms: percentile(0.5),
    p99Ms: percentile(0.99),
    cpuSeconds: ownCpuSeconds(),
  };
}

if (import.meta.main) {
  const result = await run(JSON.parse(process.argv[2]) as LoadOptions);
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
