import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { isOff, reportMissing } from './internals.ts';

/*
 * What has been read of a connection is parsed to its end, also when nobody wants it any more: hundreds of requests, each of
 * which Node makes and then aborts with an Error of its own, or ten thousand chunks of one byte, at microseconds each.
 * Node has no public way to stop its parser, so this leans on how it is built. Were that to change, all would work as
 * before, only slower; test/unit/stop-parsing.test.ts would tell.
 */

type Parser = Record<string, unknown> & { onIncoming: unknown };

/** llhttp's leave to parse nothing behind the headers of a request, if that is what it is answered to them. */
const STOP = 2;

const isUsed = !isOff('parser-stop');
if (bodyCallback(anyParser()) === undefined) reportMissing('parser-stop');

const stopped = new WeakSet<Socket>();

/** Ends a connection at once. */
export function cut(socket: Socket): void {
  stopParsing(socket);
  socket.destroy();
}

/** Nothing more comes over a connection: not of the request that is being read, and no other. It can still be answered. */
export function stopParsing(socket: Socket): void {
  stopped.add(socket);
  socket.pause();
  const { parser } = socket as Socket & { parser?: Parser | null };
  if (!parser || !isUsed) return;
  parser.onIncoming = () => STOP;
  const key = bodyCallback(parser);
  if (key === undefined) return;
  const onBody = parser[key];
  parser[key] = null;
  // By then Node has put the parser aside for another connection.
  socket.once('close', () => (parser[key] = onBody));
}

/** Where a parser keeps what it calls with a part of a body. */
function bodyCallback(parser: Parser | null | undefined): string | undefined {
  return parser ? Object.keys(parser).find((name) => (parser[name] as Function | null)?.name === 'parserOnBody') : undefined;
}

/** That of a connection which carries nothing. */
function anyParser(): Parser | null | undefined {
  const connection: Duplex & { parser?: Parser | null } = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  createServer().emit('connection', connection);
  const { parser } = connection;
  connection.destroy();
  return parser;
}

/** Whether nothing more comes over a connection, and nobody need wait for it. */
export function isStopped(socket: Socket): boolean {
  return stopped.has(socket);
}
