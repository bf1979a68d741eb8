import { once } from 'node:events';
import type { Socket } from 'node:net';
import { constants, createServer, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { Inject, Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { AllowedOrigins } from '../http/allowed-origins.ts';
import { endWith } from '../http/broken-request.ts';
import { jitteredAgeMs } from '../http/connection-age.ts';
import { RefusalLog } from '../ingest/refusal-log.ts';
import { collectorFailed, malformed, noGrpcTls, noHttp1, Refusal } from '../otlp/refusal.ts';
import { RepeatedLine } from '../telemetry/repeated-line.ts';
import { MalformedRequest } from '../transcode/bytes/malformed-request.ts';
import { Call } from './call.ts';
import { GrpcHealth } from './grpc-health.ts';
import { type Protocol, readPreface } from './preface.ts';
import { ResetWatch } from './reset-watch.ts';
import { refused } from './status.ts';
import { TRACE_SERVICE, TraceExport } from './trace-export.ts';

/*
 * gRPC on node:http2, without @grpc/grpc-js: that returns only complete, inflated messages, whose bytes can't be counted before. Here
 * messages are read like HTTP bodies, within the same limits and the same memory budget.
 */

const CONTENT_TYPE = /^application\/grpc(\+proto)?(;|$)/i;
const UNIMPLEMENTED = { 'grpc-status': '12', 'grpc-message': 'This collector has no such method.' };

/** Bytes that a connection may send before its calls are admitted. They are in memory, but not counted in the memory budget. */
const CONNECTION_WINDOW_BYTES = 1024 * 1024;
const STREAM_WINDOW_BYTES = 256 * 1024;
const MAX_CALLS_PER_CONNECTION = 100;

/** Calls that a connection may start and reset: at once, and per second after that. Beyond it, the connection is closed. */
const RESETS_AT_ONCE = MAX_CALLS_PER_CONNECTION;
const RESETS_PER_SECOND = 10;

/** Most calls that start in one tick of the event loop; further ones wait for the next tick. */
const CALLS_AT_ONCE = 64;

/** A connection without traffic for this long is pinged, and closed if the answer takes longer than KEEPALIVE_TIMEOUT_MS. */
const KEEPALIVE_MS = 60_000;
const KEEPALIVE_TIMEOUT_MS = 20_000;

/** At shutdown, the time for answers that are still being sent. */
const LAST_ANSWERS_MS = 250;

/** A call that has not started yet. */
type Arrival = readonly [ServerHttp2Stream, IncomingHttpHeaders];

type Method = (call: Call) => Promise<void>;

/** The server of the gRPC port, and its methods. Ports opens it. */
@Injectable()
export class GrpcServer implements OnApplicationShutdown {
  readonly server = createServer({
    settings: { initialWindowSize: STREAM_WINDOW_BYTES, maxConcurrentStreams: MAX_CALLS_PER_CONNECTION },
    streamResetBurst: RESETS_AT_ONCE,
    streamResetRate: RESETS_PER_SECOND,
  });
  /** Called with the number of open connections when it changes. */
  onConnections: (open: number) => void = () => {};
  /** Whether new connections get a GOAWAY at their first call. */
  isStandby = false;
  private readonly failed = new RepeatedLine(new Logger('Grpc'), 'error', 'A call failed unexpectedly');
  private readonly wrongProtocols = {
    tls: new RepeatedLine(new Logger('Grpc'), 'warn', 'TLS was sent to the port for gRPC'),
    other: new RepeatedLine(new Logger('Grpc'), 'warn', 'HTTP/1.1 was sent to the port for gRPC'),
  };
  private readonly resets = new ResetWatch();
  private arrivals: Arrival[] = [];
  /** Connections whose protocol is not known yet. */
  private readonly openings = new Set<Socket>();
  private readonly sessions = new Set<ServerHttp2Session>();
  private readonly methods: ReadonlyMap<string | undefined, Method>;
  private readonly origins: AllowedOrigins;
  /** 0: no limit. */
  private readonly maxAgeMs: number;
  /** The longest time of a call: a connection that ends waits for its calls. */
  private readonly graceMs: number;

  constructor(
    @Inject(collectorConfig.KEY) private readonly config: Config,
    traces: TraceExport,
    private readonly health: GrpcHealth,
    private readonly refusals: RefusalLog,
  ) {
    this.maxAgeMs = config.MAX_CONNECTION_AGE_MS;
    this.graceMs = config.REQUEST_TIMEOUT_MS + config.ACK_TIMEOUT_MS;
    this.origins = new AllowedOrigins(config);
    this.methods = new Map<string, Method>([
      [`/${TRACE_SERVICE}/Export`, async (call) => call.reply(await traces.export(call))],
      ['/grpc.health.v1.Health/Check', async (call) => call.reply(await health.check(call))],
      ['/grpc.health.v1.Health/Watch', (call) => health.watch(call)],
    ]);
    const [listenToHttp2] = this.server.listeners('connection') as ((socket: Socket) => void)[];
    this.server.off('connection', listenToHttp2).on('connection', (socket: Socket) => {
      this.openings.add(socket);
      this.reportConnections();
      socket.once('close', () => {
        this.openings.delete(socket);
        this.reportConnections();
      });
      readPreface(socket, KEEPALIVE_MS, (protocol) => {
        this.openings.delete(socket);
        if (protocol === 'http2') listenToHttp2.call(this.server, socket);
        else this.refuseProtocol(protocol, socket);
      });
    });
    this.server.on('session', (session) => this.onSession(session));
  }

  /** Sends GOAWAY on each connection, and waits until it ends. By then all calls are answered. */
  async onApplicationShutdown(): Promise<void> {
    if (!this.server.listening) return;
    const closed = once(this.server, 'close');
    this.server.close();
    this.health.close();
    for (const socket of this.openings) socket.destroy();
    for (const session of this.sessions) session.close();
    const tooLong = setTimeout(() => this.sessions.forEach((session) => session.destroy()), LAST_ANSWERS_MS);
    await closed;
    clearTimeout(tooLong);
  }

  /** Sends GOAWAY on each open connection, at a random time within `withinMs`. Connections that have sent nothing yet stay. */
  endConnections(withinMs: number): void {
    for (const session of this.sessions) this.endAfter(withinMs * Math.random(), session);
  }

  private reportConnections(): void {
    this.onConnections(this.openings.size + this.sessions.size);
  }

  private onSession(session: ServerHttp2Session): void {
    this.sessions.add(session);
    this.reportConnections();
    session.once('close', () => {
      this.sessions.delete(session);
      this.reportConnections();
    });
    // Its calls fail because the session is closed.
    session.on('error', () => {});
    session.on('stream', (stream, headers) => this.onStream(session, stream, headers));
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    session.setTimeout(KEEPALIVE_MS);
    session.on('timeout', () => probe(session));
    if (this.isStandby) session.once('stream', () => this.endAfter(0, session));
    else if (this.maxAgeMs > 0) this.endAfter(jitteredAgeMs(this.maxAgeMs), session);
  }

  /** Answers in HTTP/1.1, so that its clients show the message. node:http2 can't do this, as it sends its own first frame. */
  private refuseProtocol(protocol: Exclude<Protocol, 'http2'>, socket: Socket): void {
    const { PORT: httpPort, GRPC_PORT: port } = this.config;
    const refusal = protocol === 'tls' ? noGrpcTls() : noHttp1(httpPort);
    this.refusals.add(refusal);
    this.wrongProtocols[protocol].write({
      variable: 'GRPC_PORT',
      port,
      client: socket.remoteAddress,
      ...(protocol === 'other' && { httpPort }),
    });
    socket.on('error', () => {});
    endWith(refusal, socket);
    // The rest of the request is read and dropped: some clients read the answer only after they have sent the whole body.
    socket.resume();
  }

  /** Sends GOAWAY after this time. It names the last call that is answered; senders retry later ones on a new connection. */
  private endAfter(ms: number, session: ServerHttp2Session): void {
    const timers = [setTimeout(() => session.close(), ms), setTimeout(() => session.destroy(), ms + this.graceMs)];
    session.once('close', () => timers.forEach((timer) => clearTimeout(timer)));
  }

  /** Calls start only after everything that was read has been parsed, because the next frame may reset the call. */
  private onStream(session: ServerHttp2Session, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    // The sender has reset the call. Code that reads or answers it finds it closed.
    stream.on('error', () => {});
    if (this.resets.isTooMuch(session, stream)) return endAtOnce(session);
    if (this.arrivals.push([stream, headers]) === 1) setImmediate(this.begin);
  }

  private readonly begin = (): void => {
    const waiting = this.arrivals;
    this.arrivals = [];
    let begun = 0;
    for (const [at, [stream, headers]] of waiting.entries()) {
      if (stream.closed) continue;
      if (++begun > CALLS_AT_ONCE) {
        this.arrivals = waiting.slice(at);
        setImmediate(this.begin);
        return;
      }
      this.serve(stream, headers);
    }
  };

  private serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    if (!CONTENT_TYPE.test(headers['content-type'] ?? '')) return stream.respond({ ':status': 415 }, { endStream: true });
    const call = new Call(stream, headers);
    const refusal = this.origins.refusal(headers.origin, headers[':authority'] ?? headers.host);
    if (refusal !== undefined) return this.refuse(call, refusal);
    const method = this.methods.get(headers[':path']);
    if (method === undefined) return call.end(UNIMPLEMENTED);
    method(call).catch((error: unknown) => this.refuse(call, error));
  }

  private refuse(call: Call, error: unknown): void {
    const refusal = this.refusalFor(error);
    if (call.isOver) return;
    this.refusals.add(refusal, call.headers, call.target?.id);
    call.end(refused(refusal));
  }

  private refusalFor(error: unknown): Refusal {
    if (error instanceof Refusal) return error;
    if (error instanceof MalformedRequest) return malformed(error.message);
    this.failed.write({ err: error });
    return collectorFailed();
  }
}

/** Closes a connection that does not answer a ping. One that answers stays open, even without requests for hours. */
function probe(session: ServerHttp2Session): void {
  const gone = setTimeout(() => session.destroy(), KEEPALIVE_TIMEOUT_MS);
  session.ping((error) => {
    clearTimeout(gone);
    if (error === null) session.setTimeout(KEEPALIVE_MS);
  });
}

/** Closes a connection. Data of it that was already read is not parsed either. */
function endAtOnce(session: ServerHttp2Session): void {
  session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
}
