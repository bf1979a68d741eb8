import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { brokenHttp, missingHost, noTunnels, type Refusal } from '../otlp/refusal.ts';
import { cut, stopParsing } from '../runtime/stop-parsing.ts';
import { sendError } from './answer.ts';
import { endSoon, endWith, refuseBroken } from './broken-request.ts';
import { jitteredAgeMs } from './connection-age.ts';
import { hasSecondHost, isHost } from './host.ts';
import { nameOneWay } from './traces-path.ts';
import { type WrongProtocol, wrongProtocolOf } from './wrong-protocol.ts';
import { type PlainHandler, PlainConnections, type PlainConnectionsPort } from './plain-connection.ts';

export type PortName = 'otlp' | 'admin' | 'healthcheck';

/** Request line and headers of a request together. Node's default, on purpose. */
const MAX_HEADER_BYTES = 16 * 1024;
/** Of a body that is paused, at most this much is kept, and one read (64 KB): in a body of one-byte chunks each takes memory of its own. */
const PAUSED_BYTES = 16 * 1024;
/** How often late requests are looked for. */
const LATE_CHECK_MS = 1_000;
/**
 * Requests that one connection may send at once, and that may wait behind another one's answer. Past that it is cut: no sender
 * does this, each takes memory, and one read can hold hundreds, all of which come before any other connection is read.
 */
const MAX_PIPELINED = 16;
/** Requests sent so in one tick of the event loop, over all connections: hundreds of connections may send a few each. */
const MAX_PIPELINED_AT_ONCE = 128;

/** What a port knows of a connection. */
class ConnectionState {
  readonly socket: Socket;
  /** When it is old enough to end, by `performance.now()`. */
  readonly endsAtMs: number;
  /** The answer to the last request whose headers could be read. */
  last: ServerResponse | undefined;
  /** The answer that is under way. */
  current: ServerResponse | undefined;
  /** Those behind it. */
  waiting: ServerResponse[] = [];
  /** The answer that ends the connection, unless another request comes before it is sent. */
  asLast: ServerResponse | undefined;
  /** The number of the tick in which the last request came, and how many came in it. */
  tick = 0;
  requestsInTick = 0;

  constructor(socket: Socket, endsAtMs: number) {
    this.socket = socket;
    this.endsAtMs = endsAtMs;
  }

  get isOld(): boolean {
    return this.endsAtMs !== NEVER && performance.now() > this.endsAtMs;
  }
}

const NEVER = Number.POSITIVE_INFINITY;

const portServers = new WeakMap<object, PortServer>();
const connectionStates = new WeakMap<Socket, ConnectionState>();

/** The port a request came in by. */
export function portOf(request: IncomingMessage): PortName | undefined {
  return portServerOf(request)?.name;
}

/** The server of that port. */
export function portServerOf({ socket }: IncomingMessage): PortServer | undefined {
  const { server } = socket as Socket & { server?: Server };
  return server && portServers.get(server);
}

/** Sends the 100 Continue to a sender that waits for it: from here on its body is wanted. */
export function letSend(request: IncomingMessage): void {
  const { expect } = request.headers;
  if (expect === undefined || request.httpVersion !== '1.1' || !/\b100-continue\b/i.test(expect)) return;
  const response = connectionStates.get(request.socket)?.current;
  // A sender that has closed its connection, or ended it within the request, can have its answer before its token is known.
  if (response?.headersSent === false) response.writeContinue();
}

/**
 * The http.Server of one port. What Node would refuse by itself is refused here, in the form of all other refusals; and a sender
 * that asks first (Expect: 100-continue) waits until its body is wanted.
 *
 * A request is not begun before those in front of it on its connection have their answers. The answer that ends a connection is
 * thus the last that anything is done for (RFC 9112, 9.6): the sender repeats what came behind it.
 */
export class PortServer implements PlainConnectionsPort {
  readonly name: PortName;
  readonly server: Server;
  /** Called with each refusal that is made here. */
  onRefusal: (refusal: Refusal) => void = () => {};
  /** Called when that was for TLS or HTTP/2. */
  onWrongProtocol: (protocol: WrongProtocol, client: Socket) => void = () => {};
  /** Called with the number of open connections, when it changes. */
  onConnections: (open: number) => void = () => {};
  /** Age at which connections are asked to end, in ms, as long as no request waits behind another. 0: none. */
  maxAgeMs = 0;
  /** Gives a connection to node:http. */
  readonly handOver: (socket: Socket) => void;
  /** Looks at each request that node:http reads: what it returns is the answer, and nothing else is done with the request. */
  guard: ((request: IncomingMessage) => Refusal | undefined) | undefined;
  private readonly listener: RequestListener;
  private readonly states = new Set<ConnectionState>();
  private plain: PlainConnections | undefined;
  /** Number of the tick of the event loop that requests come in; undefined until one comes. */
  private tick: number | undefined;
  private ticks = 0;
  /** Requests of this tick that came behind another of their connection. */
  private pipelined = 0;

  constructor(name: PortName, listener: RequestListener) {
    this.name = name;
    this.listener = listener;
    const onRequest: RequestListener = (request, response) => {
      const state = stateOf(request.socket);
      if (this.isTooMuchAtOnce(state)) return cutBehindCurrent(state);
      // Its last answer is out.
      if (!state.socket.writable) return;
      if (this.maxAgeMs > 0) endAtAge(state, response);
      state.last = response;
      if (state.current === undefined) this.begin(state, response);
      else if (state.waiting.push(response) > MAX_PIPELINED) cutBehindCurrent(state);
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
      // Other expectations may be passed over (RFC 9110, 10.1.1).
      .on('checkExpectation', onRequest)
      .on('connect', (_request, socket: Socket) => behindAnswers(stateOf(socket), () => endWith(noTunnels(), socket)))
      .on('clientError', (error, socket: Socket) => this.refuseBroken(error, socket))
      .on('listening', () => (sweeper = setInterval(() => this.plain?.sweep(), LATE_CHECK_MS).unref()))
      .on('close', () => clearInterval(sweeper));
    portServers.set(this.server, this);
    // Else Node closes a connection as soon as the sender has ended its own side, before the answer. On the other ports that is no loss.
    if (name === 'otlp') (this.server as Server & { httpAllowHalfOpen?: boolean }).httpAllowHalfOpen = true;

    const [listenToHttp] = this.server.listeners('connection') as ((socket: Socket) => void)[];
    this.handOver = (socket) => listenToHttp.call(this.server, socket);
    this.server.off('connection', listenToHttp).on('connection', (socket: Socket) => {
      const state = new ConnectionState(socket, this.maxAgeMs > 0 ? performance.now() + jitteredAgeMs(this.maxAgeMs) : NEVER);
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

  /** The port that an http.Server belongs to. @throws when it belongs to none */
  static of(server: Server): PortServer {
    const found = portServers.get(server);
    if (found === undefined) throw new Error('This http.Server is none of the ports.');
    return found;
  }

  get keepAliveTimeoutMs(): number {
    return this.server.keepAliveTimeout;
  }

  /** From now on connections are read without node:http as long as their requests are plain, and `handler` answers those. */
  readPlain(handler: PlainHandler): void {
    this.plain = new PlainConnections(this, handler);
  }

  /** Connections that are open. */
  get connections(): number {
    return this.states.size;
  }

  /** Answers every request that has no answer yet. */
  refuseAll(refusal: Refusal): void {
    this.plain?.end(refusal);
    for (const { current } of this.states) {
      if (current !== undefined && !current.headersSent) this.refuse(refusal, current);
    }
  }

  /** Answers a request that does not get as far as the router's handlers, and ends its connection. */
  refuse(refusal: Refusal, response: ServerResponse): void {
    this.onRefusal(refusal);
    sendError(refusal, response.req, response, { connection: 'close' });
  }

  /** Ends all connections at once. */
  closeAllConnections(): void {
    this.plain?.destroy();
    this.server.closeAllConnections();
  }

  private begin(state: ConnectionState, response: ServerResponse): void {
    const { req: request } = response;
    state.current = response;
    response.once('close', () => this.beginNext(state));
    // Refused already: it is broken, or did not come in time.
    if (response.headersSent) return;
    if (this.name === 'otlp') nameOneWay(request);
    const refusal = headRefusal(request) ?? this.guard?.(request);
    if (refusal !== undefined) this.refuse(refusal, response);
    else this.listener(request, response);
  }

  /** An answer is out. If it was the last of its connection, nothing is done with what came behind the request. */
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

/** The refusal of a request line or a Host that is not valid and that Node's parser lets pass (RFC 9112, 2.3 and 3.2). */
function headRefusal({ httpVersion, headers: { host }, rawHeaders }: IncomingMessage): Refusal | undefined {
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return brokenHttp('its request line has no version, or another one');
  if (host === undefined) return httpVersion === '1.1' ? missingHost() : undefined;
  if (hasSecondHost(rawHeaders)) return brokenHttp('it has more than one header Host');
  return isHost(host) ? undefined : brokenHttp('its header Host is neither a name nor an address');
}

/** The state of a connection that a port has accepted. */
function stateOf(socket: Socket): ConnectionState {
  return connectionStates.get(socket)!;
}

/** Lets an old connection end with the answer to the last request that has come over it before that is sent. */
function endAtAge(state: ConnectionState, response: ServerResponse): void {
  if (state.asLast !== undefined) state.asLast.shouldKeepAlive = true;
  state.asLast = undefined;
  if (!response.shouldKeepAlive || !state.isOld) return;
  response.shouldKeepAlive = false;
  state.asLast = response;
}

/** Calls `then` when all complete requests of a connection have their answers. */
function behindAnswers({ last }: ConnectionState, then: () => void): void {
  if (last === undefined || last.writableFinished) then();
  else last.once('close', then);
}

/** Ends a connection at once; but if the spans of its current request may be stored, behind the answer to that. */
function cutBehindCurrent(state: ConnectionState): void {
  const { current, socket } = state;
  state.waiting.length = 0;
  if (current === undefined || !(current.headersSent || current.req.readableEnded)) return cut(socket);
  stopParsing(socket);
  if (!current.headersSent) current.shouldKeepAlive = false;
  current.once('close', () => endSoon(socket));
}
