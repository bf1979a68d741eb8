import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { brokenHttp, missingHost, noTunnels, type Refusal } from '../otlp/refusal.ts';
import { allowHalfOpen } from '../runtime/half-open.ts';
import { cut, isStopped, stopParsing } from '../runtime/stop-parsing.ts';
import { sendError } from './answer.ts';
import { endSoon, endWith, refuseBroken } from './broken-request.ts';
import { jitteredAgeMs } from './connection-age.ts';
import { hasSecondHost, isHost } from './host.ts';
import { normalizePath } from './traces-path.ts';
import { type WrongProtocol, wrongProtocolOf } from './wrong-protocol.ts';
import { type PlainHandler, PlainConnections, type PlainConnectionsPort } from './plain-connection.ts';

/** The ports of HTTP. */
export type PortName = 'otlp' | 'admin' | 'healthcheck';

/** Maximum size of request line and headers together: Node's default. */
const MAX_HEADER_BYTES = 16 * 1024;
/** Most bytes of a paused body that its stream holds, in addition to one read (64 KB). With one-byte chunks, each byte takes a buffer. */
const PAUSED_BYTES = 16 * 1024;
/** How often requests and connections are checked for timeouts. */
const LATE_CHECK_MS = 1_000;
/**
 * Requests that a connection may send at once, and that may wait for an earlier answer. Beyond it, the connection is cut: senders don't
 * do this, each request takes memory, and one read can hold hundreds, which are parsed before any other connection is read.
 */
const MAX_PIPELINED = 16;
/** Such requests in one tick of the event loop, over all connections: hundreds of connections may send a few each. */
const MAX_PIPELINED_AT_ONCE = 128;

/** The state of a connection. */
class ConnectionState {
  readonly port: PortServer;
  readonly socket: Socket;
  /** `performance.now()` from which on it is closed with its next answer. */
  endsAtMs: number;
  /** The response to the last request whose headers could be read. */
  last: ServerResponse | undefined;
  /** The response in progress. */
  current: ServerResponse | undefined;
  /** The responses that wait for it. */
  waiting: ServerResponse[] = [];
  /** The response that closes the connection, unless another request arrives before it is sent. */
  asLast: ServerResponse | undefined;
  /** The tick of the last request, and the number of requests in that tick. */
  tick = 0;
  requestsInTick = 0;

  constructor(port: PortServer, socket: Socket, endsAtMs: number) {
    this.port = port;
    this.socket = socket;
    this.endsAtMs = endsAtMs;
  }

  get isOld(): boolean {
    return this.endsAtMs !== NEVER && performance.now() > this.endsAtMs;
  }
}

const NEVER = Number.POSITIVE_INFINITY;

const portServers = new WeakMap<Server, PortServer>();
const connectionStates = new WeakMap<Socket, ConnectionState>();

/** The name of the port that a request was sent to. */
export function portOf(request: IncomingMessage): PortName | undefined {
  return portServerOf(request)?.name;
}

/** The server of that port. */
export function portServerOf({ socket }: IncomingMessage): PortServer | undefined {
  return connectionStates.get(socket)?.port;
}

/** Sends a 100 Continue if the client waits for it before it sends the body. */
export function sendContinue(request: IncomingMessage): void {
  const { expect } = request.headers;
  if (expect === undefined || request.httpVersion !== '1.1' || !/\b100-continue\b/i.test(expect)) return;
  const response = connectionStates.get(request.socket)?.current;
  // If the client has closed the connection, or ended it within the request, the answer may be sent before the token is checked.
  if (response?.headersSent === false) response.writeContinue();
}

/**
 * The http.Server of one port. Requests that Node itself would refuse are refused here, in the same format as all other refusals.
 * With `Expect: 100-continue`, the client waits until the body is read.
 *
 * A request is handled only after the earlier ones of its connection are answered. So nothing is done with requests after an
 * answer that closes the connection (RFC 9112, 9.6): the sender retries them.
 */
export class PortServer implements PlainConnectionsPort {
  readonly name: PortName;
  readonly server: Server;
  /** Called with each refusal that the port itself sends. */
  onRefusal: (refusal: Refusal) => void = () => {};
  /** Called when TLS or HTTP/2 is refused. */
  onWrongProtocol: (protocol: WrongProtocol, client: Socket) => void = () => {};
  /** Called with the number of open connections when it changes. */
  onConnections: (open: number) => void = () => {};
  /** Age from which on a connection is closed with its next answer, unless a further request waits, in ms. 0: no limit. */
  maxAgeMs = 0;
  /** Whether new connections are closed with their first answer. */
  isStandby = false;
  /** Gives a connection to node:http. */
  readonly handOver: (socket: Socket) => void;
  /** Called with each request that node:http reads. If it returns a refusal, that is the answer. */
  guard: ((request: IncomingMessage) => Refusal | undefined) | undefined;
  private readonly listener: RequestListener;
  private readonly states = new Set<ConnectionState>();
  private plain: PlainConnections | undefined;
  /** The number of the current tick of the event loop; undefined until it has a request. */
  private tick: number | undefined;
  private ticks = 0;
  /** Requests of this tick that are not the first of their connection. */
  private pipelined = 0;

  constructor(name: PortName, listener: RequestListener) {
    this.name = name;
    this.listener = listener;
    const onRequest: RequestListener = (request, response) => {
      // Without parser-stop, Node still parses what it has read.
      if (isStopped(request.socket)) return;
      const state = stateOf(request.socket);
      if (this.isTooMuchAtOnce(state)) return cutAfterCurrent(state);
      // The last answer was sent.
      if (!state.socket.writable) return;
      endAtAge(state, response);
      state.last = response;
      if (state.current === undefined) this.begin(state, response);
      else if (state.waiting.push(response) > MAX_PIPELINED) cutAfterCurrent(state);
    };
    let sweeper: NodeJS.Timeout | undefined;
    const options = {
      maxHeaderSize: MAX_HEADER_BYTES,
      insecureHTTPParser: false,
      requireHostHeader: false,
      connectionsCheckingInterval: LATE_CHECK_MS,
      highWaterMark: PAUSED_BYTES,
    };
    this.server = createServer(options, onRequest)
      .on('checkContinue', onRequest)
      // Other expectations may be ignored (RFC 9110, 10.1.1).
      .on('checkExpectation', onRequest)
      .on('connect', (_request, socket: Socket) => afterAnswers(stateOf(socket), () => endWith(noTunnels(), socket)))
      .on('clientError', (error, socket: Socket) => this.refuseBroken(error, socket))
      .on('listening', () => (sweeper = setInterval(() => this.plain?.sweep(), LATE_CHECK_MS).unref()))
      .on('close', () => clearInterval(sweeper));
    portServers.set(this.server, this);
    if (name === 'otlp') allowHalfOpen(this.server);

    const [listenToHttp] = this.server.listeners('connection') as ((socket: Socket) => void)[];
    this.handOver = (socket) => listenToHttp.call(this.server, socket);
    this.server.off('connection', listenToHttp).on('connection', (socket: Socket) => {
      const state = new ConnectionState(this, socket, this.endsAtMs());
      connectionStates.set(socket, state);
      this.states.add(state);
      this.onConnections(this.states.size);
      socket.once('close', () => {
        this.states.delete(state);
        this.onConnections(this.states.size);
      });
      if (this.plain === undefined) this.handOver(socket);
      else this.plain.add(socket, state);
    });
  }

  /** The port of an http.Server. @throws Error if it has none */
  static of(server: Server): PortServer {
    const found = portServers.get(server);
    if (found === undefined) throw new Error('This http.Server belongs to no port.');
    return found;
  }

  get keepAliveTimeoutMs(): number {
    return this.server.keepAliveTimeout;
  }

  /** Reads new connections without node:http while their requests are plain; `handler` answers these. */
  readPlain(handler: PlainHandler): void {
    this.plain = new PlainConnections(this, handler);
  }

  /** The number of open connections. */
  get connections(): number {
    return this.states.size;
  }

  /** Closes each open connection with its next answer, from a random time within `withinMs` on. */
  endConnections(withinMs: number): void {
    const nowMs = performance.now();
    for (const state of this.states) state.endsAtMs = Math.min(state.endsAtMs, nowMs + withinMs * Math.random());
  }

  /** Answers all requests that are not answered yet with `refusal`. */
  refuseAll(refusal: Refusal): void {
    this.plain?.end(refusal);
    for (const { current } of this.states) {
      if (current !== undefined && !current.headersSent) this.refuse(refusal, current);
    }
  }

  /** Refuses a request before it reaches a route, and closes its connection. */
  refuse(refusal: Refusal, response: ServerResponse): void {
    this.onRefusal(refusal);
    sendError(refusal, response.req, response, { connection: 'close' });
  }

  /** Closes all connections immediately. */
  closeAllConnections(): void {
    this.plain?.destroy();
    this.server.closeAllConnections();
  }

  /** When a new connection is to end. */
  private endsAtMs(): number {
    if (this.isStandby) return 0;
    return this.maxAgeMs > 0 ? performance.now() + jitteredAgeMs(this.maxAgeMs) : NEVER;
  }

  private begin(state: ConnectionState, response: ServerResponse): void {
    const { req: request } = response;
    state.current = response;
    response.once('close', () => this.beginNext(state));
    // Already refused: it is unreadable, or did not arrive in time.
    if (response.headersSent) return;
    if (this.name === 'otlp') normalizePath(request);
    const refusal = headRefusal(request) ?? this.guard?.(request);
    if (refusal !== undefined) this.refuse(refusal, response);
    else this.listener(request, response);
  }

  /** Called after an answer. If that has closed the connection, the waiting requests are dropped. */
  private beginNext(state: ConnectionState): void {
    state.current = undefined;
    const next = state.socket.writable ? state.waiting.shift() : undefined;
    if (next === undefined) state.waiting.length = 0;
    else this.begin(state, next);
  }

  private isTooMuchAtOnce(state: ConnectionState): boolean {
    this.tick ??= this.beginTick();
    const count = state.tick === this.tick ? state.requestsInTick + 1 : 1;
    state.tick = this.tick;
    state.requestsInTick = count;
    return count > 1 && (count > MAX_PIPELINED || ++this.pipelined > MAX_PIPELINED_AT_ONCE);
  }

  private beginTick(): number {
    this.pipelined = 0;
    setImmediate(() => (this.tick = undefined));
    return ++this.ticks;
  }

  private refuseBroken(error: Error, socket: Socket): void {
    const refusal = refuseBroken(error, socket, stateOf(socket).last);
    if (refusal === undefined) return;
    this.onRefusal(refusal);
    const protocol = wrongProtocolOf(error);
    if (protocol !== undefined) this.onWrongProtocol(protocol, socket);
  }
}

/** The refusal of an invalid request line or Host that Node's parser accepts (RFC 9112, 2.3 and 3.2). */
function headRefusal({ httpVersion, headers: { host }, rawHeaders }: IncomingMessage): Refusal | undefined {
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return brokenHttp('its request line has no version, or another one');
  if (host === undefined) return httpVersion === '1.1' ? missingHost() : undefined;
  if (hasSecondHost(rawHeaders)) return brokenHttp('it has more than one header Host');
  return isHost(host) ? undefined : brokenHttp('its header Host is neither a name nor an address');
}

/** The state of a connection to a port. */
function stateOf(socket: Socket): ConnectionState {
  return connectionStates.get(socket)!;
}

/** Makes the response to the last request of an old connection close it. */
function endAtAge(state: ConnectionState, response: ServerResponse): void {
  if (state.asLast !== undefined) state.asLast.shouldKeepAlive = true;
  state.asLast = undefined;
  if (!response.shouldKeepAlive || !state.isOld) return;
  response.shouldKeepAlive = false;
  state.asLast = response;
}

/** Calls `then` when all complete requests of a connection are answered. */
function afterAnswers({ last }: ConnectionState, then: () => void): void {
  if (last === undefined || last.writableFinished) then();
  else last.once('close', then);
}

/** Closes a connection: immediately, or after the answer to its current request if the spans of that may be stored. */
function cutAfterCurrent(state: ConnectionState): void {
  const { current, socket } = state;
  state.waiting.length = 0;
  if (current === undefined || !(current.headersSent || current.req.readableEnded)) return cut(socket);
  stopParsing(socket);
  if (!current.headersSent) current.shouldKeepAlive = false;
  current.once('close', () => endSoon(socket));
}
