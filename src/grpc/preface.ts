import type { Socket } from 'node:net';
import { endSoon } from '../http/broken-request.ts';
import { TLS_HANDSHAKE } from '../http/wrong-protocol.ts';
import { MAX_RESETS } from './reset-watch.ts';

/** The first bytes of every HTTP/2 client (RFC 9113, 3.4). */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const FRAME_HEAD_BYTES = 9;
const RST_STREAM = 0x03;

/** The protocol of a client: HTTP/2, TLS, or another one, most likely HTTP/1.1. */
export type Protocol = 'http2' | 'tls' | 'other';

/**
 * Waits for the first bytes of a connection, puts them back into the socket, and calls `then` with the protocol. A connection that
 * ends before that, or sends too little within `timeoutMs`, is closed. So is one that has already reset more than MAX_RESETS calls:
 * Node would parse all these bytes at once, and ResetWatch would see the calls only afterwards.
 */
export function readPreface(socket: Socket, timeoutMs: number, then: (protocol: Protocol) => void): void {
  let bytes = Buffer.alloc(0);
  const close = () => void socket.destroy();
  const onReadable = () => {
    const read = socket.read() as Buffer | null;
    if (read === null) return;
    bytes = Buffer.concat([bytes, read]);
    const protocol = protocolOf(bytes);
    if (protocol === undefined) return;
    socket.off('readable', onReadable).off('end', close).off('error', close).off('timeout', close).setTimeout(0);
    if (protocol === 'http2' && resetsIn(bytes) > MAX_RESETS) return endSoon(socket.on('error', close));
    socket.unshift(bytes);
    then(protocol);
  };
  socket.on('readable', onReadable).once('end', close).once('error', close).once('timeout', close).setTimeout(timeoutMs);
}

/** The protocol that begins with these bytes; undefined if more bytes are needed to know it. */
function protocolOf(bytes: Buffer): Protocol | undefined {
  const length = Math.min(bytes.length, PREFACE.length);
  if (bytes.compare(PREFACE, 0, length, 0, length) !== 0) return bytes[0] === TLS_HANDSHAKE ? 'tls' : 'other';
  return length === PREFACE.length ? 'http2' : undefined;
}

/** The number of RST_STREAM frames after the preface (RFC 9113, 4.1 and 6.4). */
function resetsIn(bytes: Buffer): number {
  let resets = 0;
  for (let at = PREFACE.length; at + FRAME_HEAD_BYTES <= bytes.length; at += FRAME_HEAD_BYTES + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === RST_STREAM) resets++;
  }
  return resets;
}
