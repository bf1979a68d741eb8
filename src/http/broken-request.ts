import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { CONTENT_TYPES } from '../otlp/otlp-response.ts';
import { brokenHttp, headersTooLarge, headersTooSlow, noHttp2, noTls, type Refusal } from '../otlp/refusal.ts';
import { errorResponse, LINGER_MS, sendError, serialize } from './answer.ts';
import { sendGoAway, type WrongProtocol, wrongProtocolOf } from './wrong-protocol.ts';

/** Connections with an unreadable request. Everything after it is unreadable as well. */
const broken = new WeakSet<Socket>();

/** The error of the HTTP parser, or of a request that did not arrive in time. */
type ParserError = Error & { code?: string; reason?: string; bytesParsed?: number; rawPacket?: Buffer };

/**
 * Answers a request that can't be read as HTTP, and closes its connection. A complete request before it is answered first: otherwise
 * the client would take the refusal for that answer.
 * @param last the response to the last request of this connection whose headers could be read
 * @returns the refusal; undefined if none is sent, or one was sent already
 */
export function refuseBroken(error: ParserError, socket: Socket, last: ServerResponse | undefined): Refusal | undefined {
  if (broken.has(socket)) return undefined;
  if (!socket.writable) {
    // Not while an answer is still being sent.
    if (!socket.writableEnded) socket.destroy();
    return undefined;
  }
  broken.add(socket);
  const protocol = wrongProtocolOf(error);
  const refusal = refusalOf(error, protocol);
  if (last === undefined && protocol === 'http2') endHttp2(refusal, socket);
  else if (last === undefined || last.writableFinished) endWith(refusal, socket);
  else if (last.req.complete) last.once('close', () => endWith(refusal, socket));
  else if (last.headersSent) return undefined;
  else sendError(refusal, last.req, last);
  return refusal;
}

function refusalOf({ code, reason, message }: ParserError, protocol: WrongProtocol | undefined): Refusal {
  if (protocol !== undefined) return protocol === 'tls' ? noTls() : noHttp2();
  if (code === 'HPE_HEADER_OVERFLOW') return headersTooLarge();
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return headersTooSlow();
  if (code === 'HPE_INVALID_EOF_STATE') return brokenHttp('it ended before it was complete');
  return brokenHttp(reason ?? message);
}

/** Sends a refusal, in JSON, on a connection without a ServerResponse. Closes the connection. */
export function endWith(refusal: Refusal, socket: Socket): void {
  if (!socket.writable) return;
  socket.write(serialize({ ...errorResponse(refusal, CONTENT_TYPES.json), close: true }), 'latin1');
  endSoon(socket);
}

/** Sends a refusal to a client of HTTP/2, as the debug data of a GOAWAY, and closes the connection. */
function endHttp2({ message }: Refusal, socket: Socket): void {
  sendGoAway(message, socket);
  endSoon(socket);
}

/** Closes the sending side of a connection, and the rest LINGER_MS later: closing it with unread bytes would reset it. */
export function endSoon(socket: Socket): void {
  if (socket.writable) socket.end();
  const tooLong = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(tooLong));
}
