import type { Socket } from 'node:net';

/** A protocol that was sent to the wrong port: TLS, or HTTP/2 without an upgrade, as gRPC sends it. */
export type WrongProtocol = 'tls' | 'http2';

/** The first byte of a TLS client: the content type of a handshake record (RFC 8446, 5.1). No HTTP method begins with it. */
export const TLS_HANDSHAKE = 0x16;

/** The protocol of data that the HTTP parser refuses; undefined if it is neither of the two. */
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
  payload.writeUInt32BE(HTTP_1_1_REQUIRED, 4); // after the id of the last answered stream: 0, as there is none
  payload.write(message, 8);
  socket.write(Buffer.concat([frameHead(0, SETTINGS), frameHead(payload.length, GOAWAY), payload]));
}

/** Makes the header of a frame without flags on stream 0, the connection. */
function frameHead(length: number, type: number): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(length, 0, 3);
  head[3] = type;
  return head;
}
