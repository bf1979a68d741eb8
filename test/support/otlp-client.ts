import { type Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type protobuf from 'protobufjs/light.js';
import { ExportTraceServiceResponse, RpcStatus } from '../../src/otlp/messages.ts';

/** What came back for a request. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** Whether it went over a connection that had carried a request before. */
  readonly reusedSocket: boolean;
}

/** Bytes go with Content-Length; pieces go chunked, without one. */
export type RequestBody = Uint8Array | string | readonly Uint8Array[];

export type Headers = Readonly<Record<string, string>>;

export interface RequestOptions {
  readonly method?: string;
  readonly headers?: Headers;
  readonly agent?: Agent;
}

export const JSON_TYPE = { 'content-type': 'application/json' };
export const PROTOBUF_TYPE = { 'content-type': 'application/x-protobuf' };

/** @throws when the connection ends without an answer */
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
    // What goes wrong in sending ends in 'error', unless the answer was there before.
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
  return decode<ExportSuccess>(ExportTraceServiceResponse, answer);
}

/** The google.rpc.Status in an answer. */
export function statusOf(answer: Answer): { code: number; message: string } {
  return decode<{ code: number; message: string }>(RpcStatus, answer);
}

function decode<T extends object>(type: protobuf.Type, { headers, body }: Answer): T {
  switch (headers['content-type']) {
    case 'application/json': {
      const parsed: T = JSON.parse(body.toString());
      return parsed;
    }
    case 'application/x-protobuf': {
      const plain = type.toObject(type.decode(body), { longs: String });
      // The descriptor holds the shape; TypeScript does not see it.
      return Object.assign<object, T>({}, plain as T);
    }
    default:
      throw new Error(`an answer of type ${headers['content-type']}: ${body.toString()}`);
  }
}
