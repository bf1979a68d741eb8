import type { OutgoingHttpHeaders } from 'node:http2';
import { Any, RetryInfo, RpcStatus } from '../otlp/messages.ts';
import { RPC_CODES } from '../otlp/otlp-response.ts';
import type { Refusal } from '../otlp/refusal.ts';

/** The trailers of a call that went well. */
export const OK: OutgoingHttpHeaders = { 'grpc-status': '0' };

/** As in the body of an HTTP answer, save that gRPC has a word for a compression it does not know. */
const CODES = { ...RPC_CODES, 415: 12 /* UNIMPLEMENTED */ };

/**
 * The trailers of a call that is refused. OTLP senders repeat what is UNAVAILABLE or DEADLINE_EXCEEDED, and what is
 * RESOURCE_EXHAUSTED only with a RetryInfo: it is there exactly where the refusal says when to come back.
 */
export function refused({ status, message, retryAfterSeconds }: Refusal): OutgoingHttpHeaders {
  const code = CODES[status];
  // Not encodeURIComponent: clients that read it with decodeURI would not bring back all of its escapes.
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
