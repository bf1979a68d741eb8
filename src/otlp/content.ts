import type { IncomingHttpHeaders } from 'node:http';
import type { Encoding } from './encoding.ts';
import { unsupportedContentType, unsupportedEncoding, unsupportedTransferEncoding } from './refusal.ts';

export type Compression = 'identity' | 'gzip' | 'deflate' | 'zstd';

const PROTOBUF = 'application/x-protobuf';
const JSON_TYPE = 'application/json';
const COMPRESSIONS: ReadonlyMap<string, Compression> = new Map([
  ['identity', 'identity'],
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'], // the same (RFC 9110, 8.4.1.3)
  ['deflate', 'deflate'],
  ['zstd', 'zstd'],
]);

/** The encoding a Content-Type names; undefined for one that is not OTLP's. None at all is protobuf. */
export function encodingOf(contentType: string | undefined): Encoding | undefined {
  if (contentType === undefined) return 'protobuf';
  // Nearly all senders write it this way, and it costs nothing to look. (In a Map it would: a text from the net is not hashed yet.)
  return exactEncodingOf(contentType) ?? exactEncodingOf(contentType.split(';', 1)[0].trim().toLowerCase());
}

function exactEncodingOf(contentType: string): Encoding | undefined {
  if (contentType === PROTOBUF) return 'protobuf';
  return contentType === JSON_TYPE ? 'json' : undefined;
}

/** @throws Refusal 415 */
export function requiredEncoding(headers: IncomingHttpHeaders): Encoding {
  const encoding = encodingOf(headers['content-type']);
  if (encoding === undefined) throw unsupportedContentType(headers['content-type'] ?? '');
  return encoding;
}

/** @throws Refusal 415; 400 when the body is compressed under way, which nobody does and Node would not undo */
export function requiredCompression(headers: IncomingHttpHeaders): Compression {
  const { 'content-encoding': given, 'transfer-encoding': transfer } = headers;
  if (transfer !== undefined && transfer.toLowerCase() !== 'chunked') throw unsupportedTransferEncoding(transfer);
  return compressionOf(given);
}

/** The compression that a header names; none at all is identity. @throws Refusal 415 */
export function compressionOf(given: string | undefined): Compression {
  if (given === undefined || given === '') return 'identity';
  const compression = COMPRESSIONS.get(given.trim().toLowerCase());
  if (compression === undefined) throw unsupportedEncoding(given);
  return compression;
}
