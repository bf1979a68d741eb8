import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { isOff, reportMissing } from './internals.ts';

/*
 * Node parses all data that it has read of a connection, even after the connection is destroyed: hundreds of requests, each created
 * and then aborted with an Error. Node has no public way to stop its parser, so this uses its internals. If these change, everything
 * works as before, only slower; test/unit/stop-parsing.test.ts would fail.
 */

type Parser = { onIncoming?: unknown };

/** The result of llhttp's on_headers_complete that stops the parsing after a request's headers. */
const STOP = 2;

const isUsed = !isOff('parser-stop');
if (typeof anyParser()?.onIncoming !== 'function') reportMissing('parser-stop');

const stopped = new WeakSet<Socket>();

/** Destroys a connection, and stops parsing what was read of it. */
export function cut(socket: Socket): void {
  stopParsing(socket);
  socket.destroy();
}

/**
 * Stops reading a connection, and drops further requests in the data that was already read. The rest of the current body in that data is
 * still delivered. A response can still be sent.
 */
export function stopParsing(socket: Socket): void {
  stopped.add(socket);
  socket.pause();
  const { parser } = socket as Socket & { parser?: Parser | null };
  if (parser && isUsed) parser.onIncoming = () => STOP;
}

/** The parser of a connection made for this purpose. */
function anyParser(): Parser | null | undefined {
  const connection: Duplex & { parser?: Parser | null } = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  createServer().emit('connection', connection);
  const { parser } = connection;
  connection.destroy();
  return parser;
}

/** Whether `stopParsing` was called for a connection: nothing more is read from it. */
export function isStopped(socket: Socket): boolean {
  return stopped.has(socket);
}
