import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { CONTENT_TYPES } from '../otlp/otlp-response.ts';
import { brokenHttp, headersTooLarge, headersTooSlow, noHttp2, noTls, type Refusal } from '../otlp/refusal.ts';
import { errorResponse, LINGER_MS, sendError, serialize } from './answer.ts';
import { sendGoAway, type WrongProtocol, wrongProtocolOf } from './wrong-protocol.ts';

/** Connections whose last request is broken. Whatever comes after it is broken as well. */
const broken = new WeakSet<Socket>();

/** Why the HTTP parser refuses a request; or it did not come in time. */
type ParserError = Error & { code?: string; reason?: string; bytesParsed?: number; rawPacket?: Buffer };

/**
 * Answers what can't be read as HTTP, and ends its connection. A complete request in front of it is answered first: the client would
 * take the refusal for that answer.
 * @param last the answer to the last request of this connection whose headers could be read
 * @returns the refusal; undefined if it can't be sent, or has been
 */
export function refuseBroken(error: ParserError, socket: Socket, last: ServerResponse | undefined): Refusal | undefined {
  if (broken.has(socket)) return undefined;
  if (!socket.writable) {
    // Unless an answer is still on its way out.
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

/** Sends a refusal where there is no request, and so no ServerResponse: as text, in JSON. Ends the connection. */
export function endWith(refusal: Refusal, socket: Socket): void {
  if (!socket.writable) return;
  socket.write(serialize({ ...errorResponse(refusal, CONTENT_TYPES.json), close: true }), 'latin1');
  endSoon(socket);
}

/** The same for a client of HTTP/2. */
function endHttp2({ message }: Refusal, socket: Socket): void {
  sendGoAway(message, socket);
  endSoon(socket);
}

/** Ends the sending side of a connection, and closes it LINGER_MS later: closed while bytes are unread, it would be reset. */
export function endSoon(socket: Socket): void {
  if (socket.writable) socket.end();
  const tooLong = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(tooLong));
}
