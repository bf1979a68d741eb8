import { EXPORT, frame } from './grpc-client.ts';

/* Frames of HTTP/2 (RFC 9113), to send what no client library sends. */

const [DATA, HEADERS, RST_STREAM, SETTINGS] = [0, 1, 3, 4];
const END_HEADERS = 4;
const CANCEL = Buffer.from([0, 0, 0, 8]);

/** What a client sends first: the preface, and empty SETTINGS (RFC 9113, 3.4). */
export const PREFACE = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), http2Frame(SETTINGS, 0, 0)]);

/** The headers of an export, without compression (RFC 7541, 6.2.2). */
const EXPORT_HEADERS = Buffer.concat(
  Object.entries({
    ':method': 'POST',
    ':scheme': 'http',
    ':path': EXPORT,
    ':authority': 'collector',
    'content-type': 'application/grpc',
    te: 'trailers',
    'x-hive-target-ref': 'target-1',
  }).map(([name, value]) =>
    Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)]),
  ),
);

function http2Frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** Calls with malformed messages, on `count` streams from number `first` on. */
export function malformedCalls(first: number, count: number): Buffer {
  return Buffer.concat(
    streams(first, count).flatMap((stream) => [
      http2Frame(HEADERS, END_HEADERS, stream, EXPORT_HEADERS),
      http2Frame(DATA, 1, stream, Buffer.from([0, 0, 0, 0, 1, 5])),
    ]),
  );
}

/** Calls that are reset at once, on `count` streams from number `first` on. */
export function resetCalls(first: number, count: number): Buffer {
  return Buffer.concat(
    streams(first, count).flatMap((stream) => [
      http2Frame(HEADERS, END_HEADERS, stream, EXPORT_HEADERS),
      http2Frame(RST_STREAM, 0, stream, CANCEL),
    ]),
  );
}

/** A call that is reset before the last `withheldBytes` bytes of its message. */
export function abandonedCall(stream: number, message: Buffer, withheldBytes: number): Buffer {
  const begun = frame(message).subarray(0, -withheldBytes);
  return Buffer.concat([
    http2Frame(HEADERS, END_HEADERS, stream, EXPORT_HEADERS),
    http2Frame(DATA, 0, stream, begun),
    http2Frame(RST_STREAM, 0, stream, CANCEL),
  ]);
}

/** The start of a call with a message of 256 KB in frames of one byte: the first `frames` of these. */
export function callInTinyFrames(stream: number, frames: number): Buffer {
  const byte = http2Frame(DATA, 0, stream, Buffer.from(' '));
  return Buffer.concat([
    http2Frame(HEADERS, END_HEADERS, stream, EXPORT_HEADERS),
    http2Frame(DATA, 0, stream, Buffer.from([0, 0, 4, 0, 0])),
    Buffer.alloc(byte.length * frames, byte),
  ]);
}

function streams(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + 2 * index);
}
