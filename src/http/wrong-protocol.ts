import type { Socket } from 'node:net';

/** What is sent to a port that the sender takes for another one: TLS; or HTTP/2 without asking first, as gRPC does. */
export type WrongProtocol = 'tls' | 'http2';

/** Content type of a TLS record of a handshake (RFC 8446, 5.1): the first byte that a client sends. No method begins with it. */
export const TLS_HANDSHAKE = 0x16;

/** Which protocol it is that the HTTP parser refuses; undefined if it is neither of the two. */
export function wrongProtocolOf(error: Error & { code?: string; bytesParsed?: number; rawPacket?: Buffer }): WrongProtocol | undefined {
  if (error.code === 'HPE_PAUSED_H2_UPGRADE') return 'http2';
  return error.bytesParsed === 0 && error.rawPacket?.[0] === TLS_HANDSHAKE ? 'tls' : undefined;
}

const SETTINGS = 0x04;
const GOAWAY = 0x07;
const HTTP_1_1_REQUIRED = 0x0d;

/** Tells a client of HTTP/2 to use HTTP/1.1: SETTINGS, and GOAWAY with a message as its debug data (RFC 9113, 6.5 and 6.8). */
export function sendGoAway(message: string, socket: Socket): void {
  const payload = Buffer.alloc(8 + Buffer.byteLength(message));
  payload.writeUInt32BE(HTTP_1_1_REQUIRED, 4); // behind the last stream that is answered: none
  payload.write(message, 8);
  socket.write(Buffer.concat([frameHead(0, SETTINGS), frameHead(payload.length, GOAWAY), payload]));
}

/** Of a frame without flags that is the connection's (stream 0). */
function frameHead(length: number, type: number): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(length, 0, 3);
  head[3] = type;
  return head;
}
