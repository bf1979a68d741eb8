import type { Socket } from 'node:net';
import { endSoon } from '../http/broken-request.ts';
import { TLS_HANDSHAKE } from '../http/wrong-protocol.ts';
import { MAX_RESETS } from './reset-watch.ts';

/** What every client of HTTP/2 sends first (RFC 9113, 3.4). */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const FRAME_HEAD_BYTES = 9;
const RST_STREAM = 0x03;

/** What a client speaks: HTTP/2, TLS, or something else, most likely HTTP/1.1. */
export type Spoken = 'http2' | 'tls' | 'other';

/**
 * Waits for the first bytes of a connection, calls `then` with what they are, and puts them back into the socket. A connection that
 * ends before, or sends too little within `timeoutMs`, is closed. So is one that has reset more than MAX_RESETS calls already: Node
 * parses what was read before it has the socket in one go, and ResetWatch would see these calls only afterwards.
 */
export function readPreface(socket: Socket, timeoutMs: number, then: (spoken: Spoken) => void): void {
  let bytes = Buffer.alloc(0);
  const close = () => void socket.destroy();
  const onReadable = () => {
    const read = socket.read() as Buffer | null;
    if (read === null) return;
    bytes = Buffer.concat([bytes, read]);
    const spoken = spokenIn(bytes);
    if (spoken === undefined) return;
    socket.off('readable', onReadable).off('end', close).off('error', close).off('timeout', close).setTimeout(0);
    if (spoken === 'http2' && resetsIn(bytes) > MAX_RESETS) return endSoon(socket.on('error', close));
    socket.unshift(bytes);
    then(spoken);
  };
  socket.on('readable', onReadable).once('end', close).once('error', close).once('timeout', close).setTimeout(timeoutMs);
}

/** Undefined as long as it can still become HTTP/2. */
function spokenIn(bytes: Buffer): Spoken | undefined {
  const length = Math.min(bytes.length, PREFACE.length);
  if (bytes.compare(PREFACE, 0, length, 0, length) !== 0) return bytes[0] === TLS_HANDSHAKE ? 'tls' : 'other';
  return length === PREFACE.length ? 'http2' : undefined;
}

/** The number of RST_STREAM frames behind the preface (RFC 9113, 4.1 and 6.4). */
function resetsIn(bytes: Buffer): number {
  let resets = 0;
  for (let at = PREFACE.length; at + FRAME_HEAD_BYTES <= bytes.length; at += FRAME_HEAD_BYTES + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === RST_STREAM) resets++;
  }
  return resets;
}
