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

/** One call: one message in, any number of messages and a status out (gRPC over HTTP/2). */
export class Call {
  readonly headers: IncomingHttpHeaders;
  /** Once it is known. */
  target: Target | undefined;
  /** gRPC's status code, once it is answered. */
  status: number | undefined;
  private readonly stream: ServerHttp2Stream;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders) {
    this.stream = stream;
    this.headers = headers;
  }

  /** The connection that it came over, perhaps with others at the same time. */
  get connection(): object {
    return this.stream.session ?? this;
  }

  /** Whether its connection is closed, or it has its answer. */
  get isOver(): boolean {
    return this.stream.destroyed || this.stream.closed || this.stream.writableEnded;
  }

  /**
   * The message, inflated. Nothing of it is read before.
   * @param memory where its bytes are reserved; when it throws, they are released
   * @throws Refusal 400, 408, 413, 415, 429 or 503
   */
  async read<Memory extends BodyMemory>(limits: BodyLimits, memory: Memory): Promise<Body<Memory>> {
    return readMessage(this.stream, compressionOf(this.headers['grpc-encoding'] as string | undefined), limits, memory);
  }

  /** The length of the message, with its prefix, as that says; 0 if it does not come soon. To be asked of a call that is not read. */
  declaredBytes(): Promise<number> {
    return declaredLength(this.stream);
  }

  onceOver(listener: () => void): void {
    this.stream.once('close', listener);
  }

  send(message: Uint8Array): void {
    if (this.isOver) return;
    if (!this.stream.headersSent) this.stream.respond(HEADERS, { waitForTrailers: true });
    this.stream.write(framed(message));
  }

  /** Sends the only message of an answer, and ends it. */
  reply(message: Uint8Array): void {
    this.send(message);
    this.end(OK);
  }

  /** Ends the answer with a status. */
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
    // The rest is read and dropped: a reset is allowed, but makes some clients miss the answer before it.
    let dropped = 0;
    let chunks = 0;
    stream.on('data', (chunk: Buffer) => readScheduler.onChunk(stream, (dropped += chunk.length), ++chunks));
  }
}
