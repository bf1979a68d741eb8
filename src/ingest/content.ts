import type { IncomingHttpHeaders } from 'node:http';
import { unsupportedContentType, unsupportedEncoding } from '../otlp/refusal.ts';
import type { Encoding } from '../transcode/transcoder.ts';

export type Compression = 'identity' | 'gzip' | 'deflate' | 'zstd';

const ENCODINGS: ReadonlyMap<string, Encoding> = new Map([
  ['application/x-protobuf', 'protobuf'],
  ['application/json', 'json'],
]);
const COMPRESSIONS: ReadonlySet<string> = new Set<Compression>(['identity', 'gzip', 'deflate', 'zstd']);

/** The encoding a Content-Type names; undefined for one that is not OTLP's. None at all is protobuf. */
export function encodingOf(contentType: string | undefined): Encoding | undefined {
  if (contentType === undefined || contentType === '') return 'protobuf';
  // Nearly all senders write it this way, and it costs nothing to look.
  const exact = ENCODINGS.get(contentType);
  if (exact !== undefined) return exact;
  const semicolon = contentType.indexOf(';');
  return ENCODINGS.get((semicolon < 0 ? contentType : contentType.slice(0, semicolon)).trim().toLowerCase());
}

/** @throws Refusal 415 */
export function requiredEncoding(headers: IncomingHttpHeaders): Encoding {
  const encoding = encodingOf(headers['content-type']);
  if (encoding === undefined) throw unsupportedContentType(headers['content-type'] ?? '');
  return encoding;
}

/** @throws Refusal 415 */
export function requiredCompression(headers: IncomingHttpHeaders): Compression {
  return compressionOf(headers['content-encoding']);
}

/** The compression that a header names; none at all is identity. @throws Refusal 415 */
export function compressionOf(given: string | undefined): Compression {
  if (given === undefined || given === '') return 'identity';
  const name = given.trim().toLowerCase();
  if (!COMPRESSIONS.has(name)) throw unsupportedEncoding(given);
  return name as Compression;
}
