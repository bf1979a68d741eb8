import { type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse, STATUS_CODES } from 'node:http';
import { encodingOf } from '../otlp/content.ts';
import { CONTENT_TYPES, errorBody } from '../otlp/otlp-response.ts';
import type { Refusal } from '../otlp/refusal.ts';
import { freeBuffer } from '../runtime/free-buffer.ts';
import { isStopped } from '../runtime/stop-parsing.ts';
import { readScheduler } from './read-scheduler.ts';

/** After an error, a body that still comes is read and dropped until nothing has come for this long; and up to this size and time. */
export const LINGER_MS = 2_000;
const LINGER_BYTES = 16 * 1024 ** 2;
const LONGEST_LINGER_MS = 10_000;

/**
 * Sends an error as the answer to a request: a google.rpc.Status in the request's encoding. If the body has not come in full, the
 * connection ends with it. Does nothing if an answer has begun.
 * @param headers of the answer, besides those of every error
 */
export function sendError(refusal: Refusal, request: IncomingMessage, response: ServerResponse, headers: OutgoingHttpHeaders = {}): void {
  if (request.complete) return writeError(refusal, request, response, headers);
  // The body of a small request is often in the same packet as its headers: then the connection can stay.
  setImmediate(writeError, refusal, request, response, headers);
}

function writeError(refusal: Refusal, request: IncomingMessage, response: ServerResponse, more: OutgoingHttpHeaders): void {
  if (response.headersSent || response.destroyed) return;
  const { status, headers: own, body } = errorResponse(refusal, request.headers['content-type'], request.method);
  const headers = { ...more, ...own };
  if (!request.complete) return lingerAfter(response.writeHead(status, { ...headers, connection: 'close' }), body);
  response.writeHead(status, headers).end(body);
  // A body that was refused half-way is paused.
  request.resume();
}

/** An answer to a request. */
export interface HttpResponse {
  readonly status: number;
  /** All but those of the connection. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Whether the connection ends with it. */
  readonly close?: boolean;
}

/** A google.rpc.Status in the encoding of a request with this content type. */
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

/** A response as text, each character a byte, with the headers that node:http would add. */
export function serialize({ status, headers, body, close }: HttpResponse, keepAliveTimeoutMs = 0): string {
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n`;
  for (const name in headers) text += `${name}: ${headers[name]}\r\n`;
  const timeout = Math.floor(keepAliveTimeoutMs / 1000);
  const connection = close === true ? 'connection: close' : `Connection: keep-alive\r\nKeep-Alive: timeout=${timeout}`;
  return `${text}Date: ${httpDate()}\r\n${connection}\r\n\r\n${body.toString('latin1')}`;
}

let date = '';
let dateSecond = 0;

/** The header Date (RFC 9110, 5.6.7), made once a second. */
function httpDate(): string {
  const second = Math.floor(Date.now() / 1000);
  if (second !== dateSecond) {
    dateSecond = second;
    date = new Date(second * 1000).toUTCString();
  }
  return date;
}

/**
 * Sends an answer before the body has come, and ends the connection. A connection that is closed while bytes are unread is reset,
 * and the answer can be lost. So only the sending side is closed with the answer, as nginx and Go do it: a sender that reads finds the
 * end of the answer, and one that only writes gets EPIPE later, after which clients read, in place of ECONNRESET. The connection is
 * closed when the sender has ended its body, or has had LINGER_MS to notice. While the scheduler pauses the body, that time stops.
 */
function lingerAfter(response: ServerResponse, body: Buffer): void {
  const { req: request } = response;
  const { socket } = request;
  const untilMs = performance.now() + LONGEST_LINGER_MS;
  let isHalfClosed = false;
  let dropped = 0;
  let chunks = 0;
  // A response that waits behind others of its connection is left to node:http.
  const end = () => void (isHalfClosed ? socket.destroySoon() : response.end());
  const silence = setTimeout(() => {
    const waitsForTurn = request.isPaused() && dropped <= LINGER_BYTES;
    if (waitsForTurn && performance.now() < untilMs) silence.refresh();
    else end();
  }, LINGER_MS);
  response.once('close', () => {
    clearTimeout(silence);
    // Code that reads it is told that it ends here.
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
    // The rest is not read. The connection stays until the sender has had the time to see the answer.
    if (dropped > LINGER_BYTES) request.pause();
    else if (performance.now() > untilMs || readScheduler.onChunk(request, dropped, chunks) !== undefined) end();
  });
  request.once('end', end).once('close', end).resume();
}
