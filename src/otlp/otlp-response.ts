import type { Encoding } from './encoding.ts';
import { BadRequest, ExportTraceServiceResponse, RpcStatus } from './messages.ts';
import type { RefusalStatus } from './refusal.ts';

/** The outcome of a request's spans, as far as the response reports it. */
export interface PartialSuccess {
  /** The number of spans that are not stored. */
  readonly rejected: number;
  readonly rejections?: readonly { readonly message: string }[];
  /** Changes to spans that are stored with other values than were sent. */
  readonly adjustments?: readonly { readonly message: string }[];
}

/** The Content-Type of a response. */
export const CONTENT_TYPES: Readonly<Record<Encoding, string>> = { protobuf: 'application/x-protobuf', json: 'application/json' };

const BAD_REQUEST = 'type.googleapis.com/google.rpc.BadRequest';

/** All spans accepted: an ExportTraceServiceResponse without fields (OTLP 1.11.0, "Full Success"). */
const FULL_SUCCESS: Readonly<Record<Encoding, Buffer>> = { protobuf: Buffer.alloc(0), json: Buffer.from('{}') };

/** The gRPC status code (google.rpc.Code) for each HTTP status. */
export const RPC_CODES: Readonly<Record<RefusalStatus, number>> = {
  400: 3, // INVALID_ARGUMENT
  401: 16, // UNAUTHENTICATED
  403: 7, // PERMISSION_DENIED
  404: 5, // NOT_FOUND
  405: 12, // UNIMPLEMENTED
  408: 4, // DEADLINE_EXCEEDED
  413: 8, // RESOURCE_EXHAUSTED
  415: 3, // INVALID_ARGUMENT
  429: 8, // RESOURCE_EXHAUSTED
  431: 8, // RESOURCE_EXHAUSTED
  500: 13, // INTERNAL
  503: 14, // UNAVAILABLE
};

/**
 * Encodes the ExportTraceServiceResponse for a request that was accepted, in full or in part, in the request's encoding. Changed
 * spans are reported as a warning: a partial success with 0 rejected spans (OTLP 1.11.0, "Partial Success").
 */
export function successBody({ rejected, rejections = [], adjustments = [] }: PartialSuccess, encoding: Encoding): Buffer {
  if (rejected === 0 && adjustments.length === 0) return FULL_SUCCESS[encoding];
  const errorMessage = [...rejections, ...adjustments].map(({ message }) => message).join(' ');
  const message = ExportTraceServiceResponse.fromObject({ partialSuccess: { rejectedSpans: rejected, errorMessage } });
  if (encoding === 'protobuf') return Buffer.from(ExportTraceServiceResponse.encode(message).finish());
  return Buffer.from(JSON.stringify(ExportTraceServiceResponse.toObject(message, { longs: String })));
}

/** Encodes a google.rpc.Status in the request's encoding. A status 400 has a google.rpc.BadRequest in it (OTLP 1.11.0, "Bad Data"). */
export function errorBody(status: RefusalStatus, text: string, encoding: Encoding): Buffer {
  const answer = { code: RPC_CODES[status], message: text };
  const badRequest = { fieldViolations: [{ description: text }] };
  if (encoding === 'json')
    return Buffer.from(JSON.stringify(status === 400 ? { ...answer, details: [{ '@type': BAD_REQUEST, ...badRequest }] } : answer));
  const details = status === 400 ? [{ typeUrl: BAD_REQUEST, value: BadRequest.encode(BadRequest.fromObject(badRequest)).finish() }] : [];
  return Buffer.from(RpcStatus.encode(RpcStatus.fromObject({ ...answer, details })).finish());
}
