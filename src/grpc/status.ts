import type { OutgoingHttpHeaders } from 'node:http2';
import { Any, RetryInfo, RpcStatus } from '../otlp/messages.ts';
import { RPC_CODES } from '../otlp/otlp-response.ts';
import type { Refusal } from '../otlp/refusal.ts';

/** The trailers of a successful call. */
export const OK: OutgoingHttpHeaders = { 'grpc-status': '0' };

/** As in the body of an HTTP answer, except that gRPC has its own code for an unsupported compression. */
const CODES = { ...RPC_CODES, 415: 12 /* UNIMPLEMENTED */ };

/**
 * The trailers of a refused call. OTLP senders retry on UNAVAILABLE and DEADLINE_EXCEEDED, and on RESOURCE_EXHAUSTED only with a
 * RetryInfo: it is present if and only if the refusal has a time for the retry.
 */
export function refused({ status, message, retryAfterSeconds }: Refusal): OutgoingHttpHeaders {
  const code = CODES[status];
  // Not encodeURIComponent: some clients decode it with decodeURI, which leaves some of its escapes.
  const trailers = { 'grpc-status': String(code), 'grpc-message': encodeURI(message.toWellFormed()) };
  if (retryAfterSeconds === undefined) return trailers;
  return { ...trailers, 'grpc-status-details-bin': withRetryInfo(code, message, retryAfterSeconds).toString('base64') };
}

/** A google.rpc.Status with a google.rpc.RetryInfo. */
function withRetryInfo(code: number, message: string, seconds: number): Buffer {
  const value = RetryInfo.encode(RetryInfo.fromObject({ retryDelay: { seconds } })).finish();
  const retryInfo = Any.create({ typeUrl: 'type.googleapis.com/google.rpc.RetryInfo', value });
  return Buffer.from(RpcStatus.encode(RpcStatus.create({ code, message, details: [retryInfo] })).finish());
}
