import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import { brokenHttp, type Refusal } from '../otlp/refusal.ts';
import { readAsStream, readReused, type Reader } from '../runtime/reused-reads.ts';
import { errorResponse, type HttpResponse, serialize } from './answer.ts';
import { endWith } from './broken-request.ts';
import { readScheduler } from './read-scheduler.ts';
import { type PlainRequest, PlainRequestReader } from './plain-request.ts';

/** A request that is still incomplete after this many reads, or this time, is handed over to node:http. */
const MAX_READS = 60;
const MAX_WAIT_MS = 1_000;
/** Limit, over all connections, for the bytes of incomplete requests, and for bytes after a request that is not answered yet. */
const MAX_HELD_BYTES = 32 * 1024 * 1024;
/** Connections that are handed over in one tick. */
const HANDED_OVER_AT_ONCE = 200;
/** Added to the time in the header Keep-Alive, as Node does: a client that relies on the header is never cut off. */
const KEEP_ALIVE_BUFFER_MS = 1_000;

/** The connection of a plain request. */
export interface ClientConnection {
  /** Whether the client has closed it, or its side of it. */
  readonly isClosed: boolean;
  /** Calls `listener` with the status of the answer when it is sent, or with undefined if the connection closes before. */
  onceAnswered(listener: (status: number | undefined) => void): void;
}

/** Answers plain requests. */
export interface PlainHandler {
  /** Whether a request with these headers would be admitted: the connection then waits for the rest of it. Never rejects. */
  expects(headers: IncomingHttpHeaders): boolean | Promise<boolean>;
  /** Answers a request, also if it fails. Never rejects. */
  answer(request: PlainRequest, client: ClientConnection): Promise<HttpResponse>;
}

/** The age of a connection. */
export interface ConnectionAge {
  /** Whether the connection is to be closed after its next answer. */
  readonly isOld: boolean;
}

/** What plain connections use of their port. */
export interface PlainConnectionsPort {
  /** Takes over a connection for good. The bytes that were read are in the socket again. */
  handOver(socket: Socket): void;
  /** Called with each refusal that is sent here. */
  onRefusal(refusal: Refusal): void;
  readonly keepAliveTimeoutMs: number;
}

/**
 * The connections of a port whose requests so far were plain, one at a time. The first other request is handed over to node:http,
 * together with its connection, before any answer.
 */
export class PlainConnections {
  readonly port: PlainConnectionsPort;
  readonly handler: PlainHandler;
  heldBytes = 0;
  private readonly connections = new Set<PlainConnection>();

  constructor(port: PlainConnectionsPort, handler: PlainHandler) {
    this.port = port;
    this.handler = handler;
  }

  /** Whether MAX_HELD_BYTES is reached. */
  get isFull(): boolean {
    return this.heldBytes > MAX_HELD_BYTES;
  }

  /** Reads a new connection. */
  add(socket: Socket, age: ConnectionAge): void {
    this.connections.add(new PlainConnection(socket, age, this));
  }

  /** Removes a connection that was closed or handed over. */
  delete(connection: PlainConnection): void {
    this.connections.delete(connection);
  }

  /** Closes connections that are idle for too long, and hands over late ones, a few per tick: there may be thousands. */
  sweep(): void {
    const nowMs = performance.now();
    for (const connection of this.connections) if (connection.isIdle(nowMs)) connection.destroy();
    handOverSome([...this.connections].filter((connection) => connection.isLate(nowMs)));
  }

  /** Answers each request that is not answered yet with `refusal`, and closes all connections. */
  end(refusal: Refusal): void {
    for (const connection of this.connections) connection.end(refusal);
  }

  /** Closes all connections immediately. */
  destroy(): void {
    for (const connection of this.connections) connection.destroy();
  }
}

function handOverSome(late: PlainConnection[]): void {
  for (const connection of late.splice(-HANDED_OVER_AT_ONCE)) {
    if (connection.isLate(performance.now())) connection.handOver();
  }
  if (late.length > 0) setImmediate(handOverSome, late);
}

class PlainConnection implements ClientConnection, Reader {
  private readonly socket: Socket;
  private readonly age: ConnectionAge;
  private readonly all: PlainConnections;
  private readonly reader: PlainRequestReader;
  private readonly isReused: boolean;
  /** `performance.now()` when the current request began; or at the last answer, if there is none. */
  private sinceMs = performance.now();
  private isNew = true;
  /** The complete request that is being answered. */
  private answered: PlainRequest | undefined;
  private whenAnswered: ((status: number | undefined) => void) | undefined;
  private hasEnded = false;
  /** Closed, or handed over. */
  private isOver = false;
  /** Whether the request being read would be admitted (`PlainHandler.expects`). Undefined until the handler is called. */
  private expected: boolean | Promise<boolean> | undefined;
  /** Bytes held of the request that is being read, or in `following`. */
  private heldBytes = 0;
  /** Bytes that were sent after the request that is being answered. */
  private following: Buffer[] = [];
  /** Whether bytes after the request were dropped for lack of room: the connection is then closed after its answer. */
  private isCut = false;

  constructor(socket: Socket, age: ConnectionAge, all: PlainConnections) {
    this.socket = socket;
    this.age = age;
    this.all = all;
    this.reader = new PlainRequestReader((headers) => this.expects(headers) === true);
    this.isReused = readReused(socket, this);
    if (!this.isReused) socket.on('data', this.onData);
    socket.on('end', this.onEnd).on('close', this.onClose).on('error', ignore);
  }

  get isClosed(): boolean {
    return this.hasEnded || this.socket.destroyed;
  }

  onceAnswered(listener: (status: number | undefined) => void): void {
    this.whenAnswered = listener;
  }

  /** Whether a new connection has sent nothing, or a request is incomplete, for too long. */
  isLate(nowMs: number): boolean {
    return !this.isOver && this.answered === undefined && (this.isNew || this.reader.reads > 0) && nowMs - this.sinceMs > MAX_WAIT_MS;
  }

  /** Whether it is without a request for longer than KEEP_ALIVE_TIMEOUT_MS. */
  isIdle(nowMs: number): boolean {
    const hasNothing = this.answered === undefined && !this.isNew && this.reader.reads === 0;
    return hasNothing && nowMs - this.sinceMs > this.all.port.keepAliveTimeoutMs + KEEP_ALIVE_BUFFER_MS;
  }

  /** Answers the current request with `refusal`, if there is one, and closes the connection. */
  end(refusal: Refusal): void {
    if (this.answered === undefined && this.reader.headers === undefined) return void this.socket.end();
    this.all.port.onRefusal(refusal);
    this.send({ ...errorResponse(refusal, (this.answered ?? this.reader).headers?.['content-type']), close: true });
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Hands the connection over to node:http, together with all unanswered bytes. */
  handOver(): void {
    const { all, reader, following, socket } = this;
    const bytes = [...reader.takeBytes(), ...following];
    this.leave();
    if (this.isReused) readAsStream(socket);
    socket.off('data', this.onData).off('end', this.onEnd).off('close', this.onClose).off('error', ignore);
    for (const part of bytes.toReversed()) socket.unshift(part);
    all.port.handOver(socket);
    socket.resume();
  }

  get readTarget(): Buffer | undefined {
    return this.reader.readTarget;
  }

  read(bytes: Buffer): boolean {
    this.onData(bytes);
    return true;
  }

  private readonly onData = (bytes: Buffer): void => {
    // The last answer was sent.
    if (this.socket.writableEnded) return;
    this.isNew = false;
    if (this.answered !== undefined) return this.holdFollowing(bytes);
    const isUnread = this.socket.writableLength > 0;
    const result = this.reader.read(bytes, isUnread);
    if (result === 'partial') this.wait();
    else if (result === 'unsupported' || isUnread) this.handOver();
    else this.answer();
  };

  private wait(): void {
    const { all, reader, socket } = this;
    if (reader.reads === 1) this.sinceMs = performance.now();
    if (reader.reads === MAX_READS || all.isFull) return this.handOver();
    this.hold(reader.heldBytes);
    const isExpected = reader.headers === undefined || this.expects(reader.headers);
    if (isExpected === false) return this.handOver();
    if (isExpected === true) return void readScheduler.onChunk(socket, this.heldBytes, reader.reads);
    socket.pause();
    void isExpected.then(this.onExpected);
  }

  /** Whether a request with these headers would be admitted. The handler is called once for each request. */
  private expects(headers: IncomingHttpHeaders): boolean | Promise<boolean> {
    this.expected ??= this.all.handler.expects(headers);
    return this.expected;
  }

  private readonly onExpected = (isExpected: boolean): void => {
    // Closed, or late and handed over.
    if (this.isOver || !this.socket.writable) return;
    this.expected = isExpected;
    if (isExpected) this.socket.resume();
    else this.handOver();
  };

  private answer(): void {
    this.hold(0);
    this.expected = undefined;
    this.answered = this.reader.take();
    void this.all.handler.answer(this.answered, this).then(this.onAnswer);
  }

  /** The client sends more before its answer: after the answer, the connection is handed over to node:http. */
  private holdFollowing(bytes: Buffer): void {
    this.socket.pause();
    this.following.push(Buffer.from(bytes));
    this.hold(this.heldBytes + bytes.length);
    if (!this.all.isFull) return;
    this.isCut = true;
    this.following = [];
    this.hold(0);
  }

  private readonly onAnswer = (answer: HttpResponse): void => {
    // It was answered already, because the collector shuts down.
    if (this.answered === undefined) return;
    // Not earlier, as its body may be read until now.
    this.answered.free();
    // An old connection ends here, unless there is a further request: node:http then answers that, and ends the connection.
    const isLast = this.isCut || (this.following.length === 0 && this.age.isOld);
    this.send(isLast ? { ...answer, close: true } : answer);
    if (this.hasEnded) this.socket.end();
    // Not a closed one: node:http would wait for its 'close' event, which has already happened, and never free it.
    else if (this.following.length > 0 && this.socket.writable) this.handOver();
  };

  private readonly onEnd = (): void => {
    this.hasEnded = true;
    if (this.answered !== undefined) return;
    const { headers, reads } = this.reader;
    if (reads === 0) return void this.socket.end();
    const refusal = brokenHttp('it ended before it was complete');
    this.all.port.onRefusal(refusal);
    // The incomplete request is dropped: no need for node:http to refuse it.
    this.reader.takeBytes();
    if (headers === undefined) endWith(refusal, this.socket);
    else this.send({ ...errorResponse(refusal, headers['content-type']), close: true });
  };

  private readonly onClose = (): void => {
    this.noteAnswered(undefined);
    this.leave();
  };

  private send(answer: HttpResponse): void {
    const { socket } = this;
    this.answered = undefined;
    this.sinceMs = performance.now();
    if (socket.destroyed) return;
    this.noteAnswered(answer.status);
    socket.write(serialize(answer, this.all.port.keepAliveTimeoutMs), 'latin1');
    if (answer.close === true) socket.end();
  }

  private noteAnswered(status: number | undefined): void {
    const { whenAnswered } = this;
    if (whenAnswered === undefined) return;
    this.whenAnswered = undefined;
    whenAnswered(status);
  }

  private hold(bytes: number): void {
    this.all.heldBytes += bytes - this.heldBytes;
    this.heldBytes = bytes;
  }

  private leave(): void {
    this.isOver = true;
    this.hold(0);
    this.all.delete(this);
  }
}

function ignore(): void {}
