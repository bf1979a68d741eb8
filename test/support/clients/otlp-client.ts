import { type Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type protobuf from 'protobufjs/light.js';
import { BadRequest, ExportTraceServiceResponse, RpcStatus } from '../../../src/otlp/messages.ts';

/** The answer to a request. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** Whether the request used a connection that an earlier one had opened. */
  readonly reusedSocket: boolean;
}

/** Bytes are sent with Content-Length, a list of pieces in chunks. */
export type RequestBody = Uint8Array | string | readonly Uint8Array[];

export type Headers = Readonly<Record<string, string>>;

export interface RequestOptions {
  readonly method?: string;
  readonly headers?: Headers;
  readonly agent?: Agent;
}

export const JSON_TYPE = { 'content-type': 'application/json' };
export const PROTOBUF_TYPE = { 'content-type': 'application/x-protobuf' };

/** Sends one request. @throws Error when the connection ends without an answer */
export function send(url: string, body: RequestBody, { method = 'POST', headers = {}, agent }: RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method, headers, agent });
    outgoing.once('error', reject);
    outgoing.once('response', (response) => {
      read(response).then((answerBody) => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: answerBody, reusedSocket: outgoing.reusedSocket });
      }, reject);
    });
    if (typeof body === 'string' || body instanceof Uint8Array) outgoing.end(body);
    // The event 'error' reports a request that can't be sent, unless its answer has come before.
    else pipeline(Readable.from(body, { objectMode: false }), outgoing).catch(() => {});
  });
}

async function read(response: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = await response.toArray();
  return Buffer.concat(pieces);
}

export interface ExportSuccess {
  partialSuccess?: { rejectedSpans: string; errorMessage: string };
}

/** The ExportTraceServiceResponse in an answer, in the encoding that its content type names. */
export function successOf(answer: Answer): ExportSuccess {
  const success: ExportSuccess = decode(ExportTraceServiceResponse, answer);
  return success;
}

/**
 * The google.rpc.Status in an answer, in the encoding that its content type names.
 * @throws Error when a 400 has no google.rpc.BadRequest with the same message, or another status has one
 */
export function statusOf(answer: Answer): { code: number; message: string } {
  const { details = [], ...status }: { code: number; message: string; details?: (JsonDetail | ProtobufDetail)[] } = decode(
    RpcStatus,
    answer,
  );
  const described = details.map(describedBadRequest).join();
  if (described !== (answer.status === 400 ? status.message : '')) throw new Error(`the details of a ${answer.status} say ${described}`);
  return status;
}

const BAD_REQUEST = 'type.googleapis.com/google.rpc.BadRequest';

interface JsonDetail {
  readonly '@type': string;
  readonly fieldViolations: readonly { description: string }[];
}

interface ProtobufDetail {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

function describedBadRequest(detail: JsonDetail | ProtobufDetail): string {
  const type = 'typeUrl' in detail ? detail.typeUrl : detail['@type'];
  if (type !== BAD_REQUEST) throw new Error(`details of type ${type}`);
  const { fieldViolations } =
    'typeUrl' in detail ? (BadRequest.toObject(BadRequest.decode(detail.value)) as Pick<JsonDetail, 'fieldViolations'>) : detail;
  return fieldViolations.map(({ description }) => description).join();
}

/** Returns any: the descriptors give the shapes, which TypeScript can't check. */
function decode(type: protobuf.Type, { headers, body }: Answer) {
  const contentType = headers['content-type'];
  if (contentType === 'application/json') return JSON.parse(body.toString());
  if (contentType === 'application/x-protobuf') return Object.assign({}, type.toObject(type.decode(body), { longs: String }));
  throw new Error(`an answer of type ${contentType}: ${body.toString()}`);
}
