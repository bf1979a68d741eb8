import { EXPORT, frame } from './grpc-client.ts';

/* HTTP/2 by hand (RFC 9113), for what no client would send. */

const [DATA, HEADERS, RST_STREAM, SETTINGS] = [0, 1, 3, 4];
const END_HEADERS = 4;
const CANCEL = Buffer.from([0, 0, 0, 8]);

/** What a client says first. */
export const HELLO = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), http2Frame(SETTINGS, 0, 0)]);

/** The headers of an export: none is compressed (RFC 7541, 6.2.2). */
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

/** Begins so many calls, each with a message that is malformed, from stream number `first` on. */
export function malformedCalls(first: number, count: number): Buffer {
  return Buffer.concat(
    streams(first, count).flatMap((stream) => [
      http2Frame(HEADERS, END_HEADERS, stream, EXPORT_HEADERS),
      http2Frame(DATA, 1, stream, Buffer.from([0, 0, 0, 0, 1, 5])),
    ]),
  );
}

/** Begins so many calls, and resets each at once. */
export function resetCalls(first: number, count: number): Buffer {
  return Buffer.concat(
    streams(first, count).flatMap((stream) => [
      http2Frame(HEADERS, END_HEADERS, stream, EXPORT_HEADERS),
      http2Frame(RST_STREAM, 0, stream, CANCEL),
    ]),
  );
}

/** A call whose message lacks its last bytes when it is reset. */
export function abandonedCall(stream: number, message: Buffer, withheldBytes: number): Buffer {
  const begun = frame(message).subarray(0, -withheldBytes);
  return Buffer.concat([
    http2Frame(HEADERS, END_HEADERS, stream, EXPORT_HEADERS),
    http2Frame(DATA, 0, stream, begun),
    http2Frame(RST_STREAM, 0, stream, CANCEL),
  ]);
}

/** Begins a call whose message of 256 KB comes in frames of one byte, of which these are the first. */
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
