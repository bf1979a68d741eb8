import { Socket } from 'node:net';
import { isOff, reportFailed, reportMissing } from './internals.ts';

/*
 * Node allocates 64 KB for each read of a connection, and passes the data through streams. For a small request that costs more than the
 * rest of the work for its connection. So connections are read into shared memory, as with net.Socket's option `onread`. Servers can't
 * set that option for the connections that they accept, so this sets the internal fields of the socket. If these change, everything works
 * as before, only slower; test/unit/reused-reads.test.ts would fail.
 */

/** The reader of a connection. */
export interface Reader {
  /** The buffer to read the next bytes into; undefined for the shared one. Queried after each read: Node uses it until the next query. */
  readonly readTarget: Buffer | undefined;
  /**
   * Called with the bytes of a read.
   * @param bytes in `readTarget`, or in memory that is reused after the call
   * @returns false to read no more for now
   */
  read(bytes: Buffer): boolean;
}

type ReusingSocket = Socket & { [key: symbol]: unknown; readonly _handle?: { useUserBuffer?(buffer: Uint8Array): void } | null };

const [BUFFER, CALLBACK, NEXT_BUFFER] = symbolsOf(new Socket(), ['kBuffer', 'kBufferCb', 'kBufferGen']);
const exists = BUFFER !== undefined && CALLBACK !== undefined && NEXT_BUFFER !== undefined;
if (!exists) reportMissing('shared-reads');
const isUsed = exists && !isOff('shared-reads');
const SHARED = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * Lets `reader` read a connection, of which nothing has been read yet. Its stream then has no data.
 * @returns false if that is not possible
 */
export function readReused(socket: Socket, reader: Reader): boolean {
  const { _handle: handle } = socket as ReusingSocket;
  if (!isUsed || !handle) return false;
  if (typeof handle.useUserBuffer !== 'function') {
    reportFailed('shared-reads');
    return false;
  }
  let target: Buffer = SHARED;
  setUp(
    socket,
    (length) => reader.read(target.subarray(0, length)),
    () => (target = reader.readTarget ?? SHARED),
  );
  return true;
}

/** Passes all further data to the socket's stream, and removes the reader. */
export function readAsStream(socket: Socket): void {
  setUp(
    socket,
    (length) => socket.push(Buffer.from(SHARED.subarray(0, length))),
    () => SHARED,
  );
}

function setUp(socket: Socket, onRead: (length: number) => boolean, nextBuffer: () => Buffer): void {
  const bySymbol: Record<symbol, unknown> = { [BUFFER!]: SHARED, [CALLBACK!]: onRead, [NEXT_BUFFER!]: nextBuffer };
  Object.assign(socket, bySymbol);
  // Otherwise Node would write the next read to the last target, which may be freed.
  (socket as ReusingSocket)._handle?.useUserBuffer?.(SHARED);
}

function symbolsOf(object: object, names: readonly string[]): (symbol | undefined)[] {
  const symbols = Object.getOwnPropertySymbols(object);
  return names.map((name) => symbols.find(({ description }) => description === name));
}
