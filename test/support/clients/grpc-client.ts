import { once } from 'node:events';
import { connect, constants } from 'node:http2';
import { Client, type ClientOptions, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { RetryInfo, RpcStatus } from '../../../src/otlp/messages.ts';

/* gRPC clients: @grpc/grpc-js, as senders use it, and plain HTTP/2, to send what that never sends. */

export const EXPORT = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
export const CHECK = '/grpc.health.v1.Health/Check';
export const WATCH = '/grpc.health.v1.Health/Watch';

export type Headers = Readonly<Record<string, string>>;

/** The answer to a call. */
export interface GrpcAnswer {
  /** The name of the code: UNAVAILABLE. */
  readonly code: string;
  readonly message: string;
  /** Empty unless the code is OK. */
  readonly response: Buffer;
  /** From the RetryInfo, if there is one. */
  readonly retryAfterSeconds: number | undefined;
}

export interface GrpcClient extends Disposable {
  call(method: string, message: Uint8Array, headers?: Headers): Promise<GrpcAnswer>;
  /** A call with a stream of answers. `ended` resolves with the name of its code. */
  stream(method: string, message: Uint8Array): { readonly received: readonly Buffer[]; readonly ended: Promise<string> };
}

const identity = (bytes: Buffer): Buffer => bytes;

/** A client with one connection, which it does not share. */
export function grpcClient(port: number, options: ClientOptions = {}): GrpcClient {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1, ...options });
  return {
    call: (method, message, headers = {}) =>
      new Promise((resolve) => {
        client.makeUnaryRequest(method, identity, identity, Buffer.from(message), metadataOf(headers), (error, response) =>
          resolve(error === null ? success(response) : failure(error)),
        );
      }),
    stream(method, message) {
      const received: Buffer[] = [];
      const call = client.makeServerStreamRequest(method, identity, identity, Buffer.from(message));
      call.on('data', (bytes: Buffer) => received.push(bytes));
      call.on('error', () => {});
      return { received, ended: new Promise((resolve) => call.on('status', ({ code }) => resolve(status[code]))) };
    },
    [Symbol.dispose]: () => client.close(),
  };
}

/** A call over plain HTTP/2, open until `end`. */
export interface RawCall extends Disposable {
  write(bytes: Uint8Array): void;
  end(bytes?: Uint8Array): void;
  /** Resets the call, as a sender does after its timeout. */
  cancel(): void;
  /** Headers and trailers of the answer together. */
  readonly answer: Promise<Readonly<Record<string, unknown>>>;
  /** Resolves when the server announces that it ends the connection (GOAWAY). */
  readonly goAway: Promise<unknown>;
}

/** Begins a call on a new connection. */
export function rawCall(port: number, headers: Headers = {}, method = EXPORT): RawCall {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  const stream = session.request(
    { ':method': 'POST', ':path': method, 'content-type': 'application/grpc', te: 'trailers', ...headers },
    { endStream: false },
  );
  const answer = new Promise<Record<string, unknown>>((resolve, reject) => {
    const fields: Record<string, unknown> = {};
    stream.on('response', (more) => Object.assign(fields, more));
    stream.on('trailers', (more) => Object.assign(fields, more));
    stream.on('end', () => resolve(fields));
    stream.on('error', reject);
  });
  answer.catch(() => {});
  stream.resume();
  return {
    write: (bytes) => void stream.write(bytes),
    end: (bytes = Buffer.alloc(0)) => void stream.end(bytes),
    cancel: () => stream.close(constants.NGHTTP2_CANCEL),
    answer,
    goAway: once(session, 'goaway'),
    [Symbol.dispose]: () => session.destroy(),
  };
}

/** A gRPC message with its prefix. Options give the prefix other values than the right ones. */
export function frame(message: Uint8Array, { compressed = 0, length = message.length } = {}): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = compressed;
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, message]);
}

/** The headers of a call for @grpc/grpc-js. */
export function metadataOf(headers: Headers): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return metadata;
}

function success(response: Buffer | undefined): GrpcAnswer {
  return { code: 'OK', message: '', response: response ?? Buffer.alloc(0), retryAfterSeconds: undefined };
}

function failure({ code, details, metadata }: ServiceError): GrpcAnswer {
  const [bytes] = metadata.get('grpc-status-details-bin');
  return {
    code: status[code],
    message: details,
    response: Buffer.alloc(0),
    retryAfterSeconds: bytes === undefined ? undefined : retryDelayOf(bytes as Buffer),
  };
}

/** Seconds of the RetryInfo in an encoded google.rpc.Status; undefined if it has none. */
export function retryDelayOf(bytes: Buffer): number | undefined {
  const { details } = RpcStatus.toObject(RpcStatus.decode(bytes), { arrays: true }) as { details: { typeUrl: string; value: Buffer }[] };
  const retryInfo = details.find(({ typeUrl }) => typeUrl === 'type.googleapis.com/google.rpc.RetryInfo');
  if (retryInfo === undefined) return undefined;
  const { retryDelay } = RetryInfo.toObject(RetryInfo.decode(retryInfo.value), { longs: Number }) as { retryDelay: { seconds: number } };
  return retryDelay.seconds;
}
