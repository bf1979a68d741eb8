import { type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse, STATUS_CODES } from 'node:http';
import { encodingOf } from '../otlp/content.ts';
import { CONTENT_TYPES, errorBody } from '../otlp/otlp-response.ts';
import type { Refusal } from '../otlp/refusal.ts';
import { freeBuffer } from '../runtime/free-buffer.ts';
import { isStopped } from '../runtime/stop-parsing.ts';
import { readScheduler } from './read-scheduler.ts';

/** After an error, the rest of a body is read and dropped until nothing arrives for LINGER_MS, up to this size and this time. */
export const LINGER_MS = 2_000;
const LINGER_BYTES = 16 * 1024 ** 2;
const LONGEST_LINGER_MS = 10_000;

/**
 * Answers a request with an error: a google.rpc.Status in the request's encoding. If the body is incomplete, the connection is closed
 * after it. Does nothing if an answer has started.
 * @param headers additional headers of the answer
 */
export function sendError(refusal: Refusal, request: IncomingMessage, response: ServerResponse, headers: OutgoingHttpHeaders = {}): void {
  if (request.complete) return writeError(refusal, request, response, headers);
  // The body of a small request is often in the same packet as its headers: then the connection can stay open.
  setImmediate(writeError, refusal, request, response, headers);
}

function writeError(refusal: Refusal, request: IncomingMessage, response: ServerResponse, more: OutgoingHttpHeaders): void {
  if (response.headersSent || response.destroyed) return;
  const { status, headers: own, body } = errorResponse(refusal, request.headers['content-type'], request.method);
  const headers = { ...more, ...own };
  if (!request.complete) return lingerAfter(response.writeHead(status, { ...headers, connection: 'close' }), body);
  response.writeHead(status, headers).end(body);
  // A body that was refused before its end is paused.
  request.resume();
}

/** An answer to a request. */
export interface HttpResponse {
  readonly status: number;
  /** All headers except those of the connection. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Whether the connection is closed after it. */
  readonly close?: boolean;
}

/** Makes an error answer: a google.rpc.Status in the encoding of a request with this content type. */
export function errorResponse(refusal: Refusal, contentType: string | undefined, method = 'POST'): HttpResponse {
  const { status, message, retryAfterSeconds } = refusal;
  // A request without a body comes from a person, who reads JSON more easily.
  const encoding = contentType === undefined && method !== 'POST' ? 'json' : (encodingOf(contentType) ?? 'json');
  const body = errorBody(status, message, encoding);
  const headers: Record<string, string> = { 'content-type': CONTENT_TYPES[encoding], 'content-length': String(body.length) };
  if (retryAfterSeconds !== undefined) headers['retry-after'] = String(retryAfterSeconds);
  if (status === 405) headers.allow = 'POST';
  return { status, headers, body };
}

/** Makes the text of a response, one character per byte, with the headers that node:http would add. */
export function serialize({ status, headers, body, close }: HttpResponse, keepAliveTimeoutMs = 0): string {
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n`;
  for (const name in headers) text += `${name}: ${headers[name]}\r\n`;
  const timeout = Math.floor(keepAliveTimeoutMs / 1000);
  const connection = close === true ? 'connection: close' : `Connection: keep-alive\r\nKeep-Alive: timeout=${timeout}`;
  return `${text}Date: ${httpDate()}\r\n${connection}\r\n\r\n${body.toString('latin1')}`;
}

let date = '';
let dateSecond = 0;

/** The value of the header Date (RFC 9110, 5.6.7), made once per second. */
function httpDate(): string {
  const second = Math.floor(Date.now() / 1000);
  if (second !== dateSecond) {
    dateSecond = second;
    date = new Date(second * 1000).toUTCString();
  }
  return date;
}

/**
 * Sends an answer before the body is complete, and closes the connection. If a connection is closed while bytes are unread, the kernel
 * resets it, and the answer can be lost. So only the sending side is closed with the answer, as in nginx and Go: a client that reads gets
 * the whole answer, and one that only writes gets EPIPE instead of ECONNRESET, after which clients read. The connection is closed
 * when the client has ended its body, or has sent nothing for LINGER_MS. That time does not count while the scheduler pauses the body.
 */
function lingerAfter(response: ServerResponse, body: Buffer): void {
  const { req: request } = response;
  const { socket } = request;
  const untilMs = performance.now() + LONGEST_LINGER_MS;
  let isHalfClosed = false;
  let dropped = 0;
  let chunks = 0;
  // A response that still waits for earlier ones of its connection is only ended: node:http sends it later.
  const end = () => void (isHalfClosed ? socket.destroySoon() : response.end());
  const silence = setTimeout(() => {
    const isScheduled = request.isPaused() && dropped <= LINGER_BYTES;
    if (isScheduled && performance.now() < untilMs) silence.refresh();
    else end();
  }, LINGER_MS);
  response.once('close', () => {
    clearTimeout(silence);
    // Code that reads the body gets its 'close' event.
    request.destroy();
  });
  response.write(body, () => {
    isHalfClosed = true;
    socket.end();
  });
  if (request.destroyed || socket.readableEnded) return end();
  if (isStopped(socket)) return;

  request.on('data', (chunk: Buffer) => {
    dropped += chunk.length;
    chunks++;
    freeBuffer(chunk);
    silence.refresh();
    // The rest is not read. The connection stays open for LINGER_MS, so that the client can read the answer.
    if (dropped > LINGER_BYTES) request.pause();
    else if (performance.now() > untilMs || readScheduler.onChunk(request, dropped, chunks) !== undefined) end();
  });
  request.once('end', end).once('close', end).resume();
}
