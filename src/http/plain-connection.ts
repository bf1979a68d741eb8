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
/** What all connections together may hold for partial requests, and for bytes that came before the answer to the request in front of them. */
const MAX_HELD_BYTES = 32 * 1024 * 1024;
const HANDED_OVER_AT_ONCE = 200;
/** Node adds this to the time that the header Keep-Alive tells: whoever goes by it is never cut off. */
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
 * Connections whose requests are plain so far, and come one at a time. The first that is anything out of the ordinary goes to
 * node:http together with its connection, before anything of it is answered.
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

  /** Whether no more may be held. */
  get isFull(): boolean {
    return this.heldBytes > MAX_HELD_BYTES;
  }

  add(socket: Socket, age: ConnectionAge): void {
    this.connections.add(new PlainConnection(socket, age, this));
  }

  delete(connection: PlainConnection): void {
    this.connections.delete(connection);
  }

  /** Ends connections that are idle too long, and gives away those that are late: some at a time, as thousands may have come at once. */
  sweep(): void {
    const nowMs = performance.now();
    for (const connection of this.connections) if (connection.isIdle(nowMs)) connection.destroy();
    handOverSome([...this.connections].filter((connection) => connection.isLate(nowMs)));
  }

  /** Answers whoever has no answer yet, and ends all connections. */
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
  /** Since when nothing has come, or since when the request that is read has. */
  private sinceMs = performance.now();
  private isNew = true;
  /** The request that is answered. */
  private answered: PlainRequest | undefined;
  private whenAnswered: ((status: number | undefined) => void) | undefined;
  private hasEnded = false;
  /** Closed, or handed over. */
  private isOver = false;
  /** Whether the rest of the request that is read is wanted, once that has been asked. */
  private expected: boolean | Promise<boolean> | undefined;
  /** What is held of it, or of what came behind the one that is answered. */
  private heldBytes = 0;
  /** What came behind the request that is answered. */
  private behind: Buffer[] = [];
  /** Whether it was more than there is room for: the answer is the last. */
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

  /** It has said nothing yet, or not all of a request. */
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

  /** Asked as soon as the headers are there, and once. */
  private expects(headers: IncomingHttpHeaders): boolean | Promise<boolean> {
    this.expected ??= this.all.handler.expects(headers);
    return this.expected;
  }

  private readonly onExpected = (isExpected: boolean): void => {
    // It is gone, or was late and has been given away.
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

  /** The sender does not wait for its answer. That, node:http knows how to put in order. */
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
    // Refused while it waited, as the collector shuts down.
    if (this.answered === undefined) return;
    // Not before: until then its body may be read.
    this.answered.free();
    // What has come behind the request is answered as well: node:http ends the connection then.
    const isLast = this.isCut || (this.behind.length === 0 && this.age.isOld);
    this.send(isLast ? { ...answer, close: true } : answer);
    if (this.hasEnded) this.socket.end();
    // Of a connection that is gone, nobody would tell node:http, which would keep it for good.
    else if (this.behind.length > 0 && this.socket.writable) this.handOver();
  };

  private readonly onEnd = (): void => {
    this.hasEnded = true;
    if (this.answered !== undefined) return;
    const { headers, reads } = this.reader;
    if (reads === 0) return void this.socket.end();
    const refusal = brokenHttp('it ended before it was complete');
    this.all.port.onRefusal(refusal);
    // Not late, but over: there is nothing to hand over.
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
