import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import { brokenHttp, type Refusal } from '../otlp/refusal.ts';
import { readAsStream, readReused, type Reader } from '../runtime/reused-reads.ts';
import { errorResponse, type HttpResponse, serialize } from './answer.ts';
import { endWith } from './broken-request.ts';
import { readScheduler } from './read-scheduler.ts';
import { type PlainRequest, PlainRequestReader } from './plain-request.ts';

/** A request that is still partial after so many reads, or after this time, goes to node:http. */
const MAX_READS = 60;
const MAX_WAIT_MS = 1_000;
/** What all connections together may hold of partial requests, and of bytes that came behind a request without an answer. */
const MAX_HELD_BYTES = 32 * 1024 * 1024;
const HANDED_OVER_AT_ONCE = 200;
/** Node adds this to the time in the header Keep-Alive: a client that relies on the header is never cut off. */
const KEEP_ALIVE_BUFFER_MS = 1_000;

/** The connection that a plain request came over. */
export interface ClientConnection {
  /** The client has closed it, or its side of it. */
  readonly isClosed: boolean;
  /** Calls `listener` with the status of the answer when that is sent, or with undefined when the connection has closed before. */
  onceAnswered(listener: (status: number | undefined) => void): void;
}

/** Answers plain requests. */
export interface PlainHandler {
  /** Whether the rest of a request with these headers can be waited for: it would be let in. Never rejects. */
  expects(headers: IncomingHttpHeaders): boolean | Promise<boolean>;
  /** Answers a request, whatever happens. Never rejects. */
  answer(request: PlainRequest, client: ClientConnection): Promise<HttpResponse>;
}

/** The age of a connection. */
export interface ConnectionAge {
  /** Whether it is old enough to end with its next answer. */
  readonly isOld: boolean;
}

/** What a port does for these connections. */
export interface PlainConnectionsPort {
  /** Takes a connection over, for good. What has been read of it is in the socket again. */
  handOver(socket: Socket): void;
  onRefusal(refusal: Refusal): void;
  readonly keepAliveTimeoutMs: number;
}

/**
 * Connections whose requests are plain so far, and come one at a time. The first request that is not goes to node:http together with
 * its connection, before anything of it is answered.
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

  /** Whether as much is held as may be. */
  get isFull(): boolean {
    return this.heldBytes > MAX_HELD_BYTES;
  }

  add(socket: Socket, age: ConnectionAge): void {
    this.connections.add(new PlainConnection(socket, age, this));
  }

  delete(connection: PlainConnection): void {
    this.connections.delete(connection);
  }

  /** Ends connections that are idle for too long, and hands over those that are late: a few at a time, as there may be thousands. */
  sweep(): void {
    const nowMs = performance.now();
    for (const connection of this.connections) if (connection.isIdle(nowMs)) connection.destroy();
    handOverSome([...this.connections].filter((connection) => connection.isLate(nowMs)));
  }

  /** Answers each request that has no answer yet, and ends all connections. */
  end(refusal: Refusal): void {
    for (const connection of this.connections) connection.end(refusal);
  }

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
  /** When the request that is read began to come; the last answer, if none is read. By `performance.now()`. */
  private sinceMs = performance.now();
  private isNew = true;
  /** The request that waits for its answer. */
  private answered: PlainRequest | undefined;
  private whenAnswered: ((status: number | undefined) => void) | undefined;
  private hasEnded = false;
  /** Closed, or handed over. */
  private isOver = false;
  /** What the handler said of the request that is read: whether it would be let in. Undefined until it is asked. */
  private expected: boolean | Promise<boolean> | undefined;
  /** Bytes that are held of the request that is read, or of `behind`. */
  private heldBytes = 0;
  /** What came behind the request that waits for its answer. */
  private behind: Buffer[] = [];
  /** Whether there was no room for what came behind the request: its answer is the last one of the connection. */
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

  /** Whether it has sent nothing yet, or only a part of a request, for too long. */
  isLate(nowMs: number): boolean {
    return !this.isOver && this.answered === undefined && (this.isNew || this.reader.reads > 0) && nowMs - this.sinceMs > MAX_WAIT_MS;
  }

  isIdle(nowMs: number): boolean {
    const hasNothing = this.answered === undefined && !this.isNew && this.reader.reads === 0;
    return hasNothing && nowMs - this.sinceMs > this.all.port.keepAliveTimeoutMs + KEEP_ALIVE_BUFFER_MS;
  }

  end(refusal: Refusal): void {
    if (this.answered === undefined && this.reader.headers === undefined) return void this.socket.end();
    this.all.port.onRefusal(refusal);
    this.send({ ...errorResponse(refusal, (this.answered ?? this.reader).headers?.['content-type']), close: true });
  }

  destroy(): void {
    this.socket.destroy();
  }

  handOver(): void {
    const { all, reader, behind, socket } = this;
    const bytes = [...reader.takeBytes(), ...behind];
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
    // It has had its last answer.
    if (this.socket.writableEnded) return;
    this.isNew = false;
    if (this.answered !== undefined) return this.pauseBehind(bytes);
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

  /** Whether a request with these headers would be let in. The handler is asked once for each request. */
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

  /** The client sends more before it has its answer. node:http, which keeps the order of answers, has the connection after that. */
  private pauseBehind(bytes: Buffer): void {
    this.socket.pause();
    this.behind.push(Buffer.from(bytes));
    this.hold(this.heldBytes + bytes.length);
    if (!this.all.isFull) return;
    this.isCut = true;
    this.behind = [];
    this.hold(0);
  }

  private readonly onAnswer = (answer: HttpResponse): void => {
    // It has its answer: the collector shuts down.
    if (this.answered === undefined) return;
    // Not earlier: until here its body may be read.
    this.answered.free();
    // An old connection ends here, unless more has come: node:http answers that, and ends the connection then.
    const isLast = this.isCut || (this.behind.length === 0 && this.age.isOld);
    this.send(isLast ? { ...answer, close: true } : answer);
    if (this.hasEnded) this.socket.end();
    // Not one that is closed: node:http would wait for an event that has been, and keep the connection for good.
    else if (this.behind.length > 0 && this.socket.writable) this.handOver();
  };

  private readonly onEnd = (): void => {
    this.hasEnded = true;
    if (this.answered !== undefined) return;
    const { headers, reads } = this.reader;
    if (reads === 0) return void this.socket.end();
    const refusal = brokenHttp('it ended before it was complete');
    this.all.port.onRefusal(refusal);
    // What has come of the request is dropped. node:http is not needed to refuse it.
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
