import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Target } from '../auth/target.ts';
import type { Body, BodyLimits, BodyMemory } from '../bodies/request-body.ts';
import { readScheduler } from '../http/read-scheduler.ts';
import { compressionOf } from '../otlp/content.ts';
import { declaredLength, framed, readMessage } from './message.ts';
import { OK } from './status.ts';

const HEADERS: OutgoingHttpHeaders = {
  ':status': 200,
  'content-type': 'application/grpc',
  'grpc-accept-encoding': 'identity,gzip,deflate,zstd',
};

/** A gRPC call: one request message, any number of response messages, and a status. */
export class Call {
  readonly headers: IncomingHttpHeaders;
  /** Set once the credentials are checked. */
  target: Target | undefined;
  /** gRPC's status code; set with the answer. */
  status: number | undefined;
  private readonly stream: ServerHttp2Stream;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders) {
    this.stream = stream;
    this.headers = headers;
  }

  /** Its connection, which it may share with other calls. */
  get connection(): object {
    return this.stream.session ?? this;
  }

  /** Whether it is answered, or its connection is closed. */
  get isOver(): boolean {
    return this.stream.destroyed || this.stream.closed || this.stream.writableEnded;
  }

  /**
   * Reads and inflates the message.
   * @param memory reserves the bytes; they are released when this rejects
   * @throws Refusal 400, 408, 413, 415, 429 or 503
   */
  async read<Memory extends BodyMemory>(limits: BodyLimits, memory: Memory): Promise<Body<Memory>> {
    return readMessage(this.stream, compressionOf(this.headers['grpc-encoding'] as string | undefined), limits, memory);
  }

  /** The length of the message and its prefix, from the prefix; 0 if that does not arrive soon. For a call whose message is not read. */
  declaredBytes(): Promise<number> {
    return declaredLength(this.stream);
  }

  /** Calls `listener` when the call has ended. */
  onceOver(listener: () => void): void {
    this.stream.once('close', listener);
  }

  /** Sends a message. Does nothing if the call has ended. */
  send(message: Uint8Array): void {
    if (this.isOver) return;
    if (!this.stream.headersSent) this.stream.respond(HEADERS, { waitForTrailers: true });
    this.stream.write(framed(message));
  }

  /** Sends the only message of an answer, and ends the call with status OK. */
  reply(message: Uint8Array): void {
    this.send(message);
    this.end(OK);
  }

  /** Ends the call with a status. */
  end(trailers: OutgoingHttpHeaders): void {
    const { stream } = this;
    if (this.isOver) return;
    this.status = Number(trailers['grpc-status']);
    if (stream.headersSent) {
      stream.once('wantTrailers', () => stream.sendTrailers(trailers));
      stream.end();
    } else {
      stream.respond({ ...HEADERS, ...trailers }, { endStream: true });
    }
    // The rest of the request is read and dropped. A reset would be allowed, but some clients then lose the answer.
    let dropped = 0;
    let chunks = 0;
    stream.on('data', (chunk: Buffer) => readScheduler.onChunk(stream, (dropped += chunk.length), ++chunks));
  }
}
