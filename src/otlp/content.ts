import type { IncomingHttpHeaders } from 'node:http';
import type { Encoding } from './encoding.ts';
import { unsupportedContentType, unsupportedEncoding, unsupportedTransferEncoding } from './refusal.ts';

/** The supported values of Content-Encoding and grpc-encoding. */
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

/** The encoding that a Content-Type names; undefined if OTLP has none of that name. A missing header means protobuf. */
export function encodingOf(contentType: string | undefined): Encoding | undefined {
  if (contentType === undefined) return 'protobuf';
  // The exact spelling of nearly all senders, compared first. (A Map would be slower: it has to hash the header's text.)
  return exactEncodingOf(contentType) ?? exactEncodingOf(contentType.split(';', 1)[0].trim().toLowerCase());
}

function exactEncodingOf(contentType: string): Encoding | undefined {
  if (contentType === PROTOBUF) return 'protobuf';
  return contentType === JSON_TYPE ? 'json' : undefined;
}

/** The encoding of a request (OTLP 1.11.0, "OTLP/HTTP Request"). @throws Refusal 415 if OTLP does not have it */
export function requiredEncoding(headers: IncomingHttpHeaders): Encoding {
  const encoding = encodingOf(headers['content-type']);
  if (encoding === undefined) throw unsupportedContentType(headers['content-type'] ?? '');
  return encoding;
}

/**
 * The compression of a request's body.
 * @throws Refusal 415 if it is not supported; 400 for a transfer encoding other than chunked, which Node does not decode
 */
export function requiredCompression(headers: IncomingHttpHeaders): Compression {
  const { 'content-encoding': given, 'transfer-encoding': transfer } = headers;
  if (transfer !== undefined && transfer.toLowerCase() !== 'chunked') throw unsupportedTransferEncoding(transfer);
  return compressionOf(given);
}

/** The compression that a Content-Encoding names; identity if the header is missing. @throws Refusal 415 if it is not supported */
export function compressionOf(given: string | undefined): Compression {
  if (given === undefined || given === '') return 'identity';
  const compression = COMPRESSIONS.get(given.trim().toLowerCase());
  if (compression === undefined) throw unsupportedEncoding(given);
  return compression;
}
