import { Socket } from 'node:net';
import { isOff, reportMissing } from './internals.ts';

/*
 * Node reads each chunk of a connection into 64 KB of new memory, and leaves it to streams to pass it on. For a small
 * request that costs more than all else about its connection. So these are read into memory that all of them share, as
 * net.Socket's option `onread` does; but a server has no way to set that for the connections that it accepts, so this leans
 * on how Node keeps it. Were that to change, all would work as before, only slower; test/unit/reused-reads.test.ts would tell.
 */

/** Who reads a connection. */
export interface Reader {
  /** Where the next bytes go to; undefined: anywhere. Asked after each read; not to be freed before it is asked again, as Node keeps it. */
  readonly readTarget: Buffer | undefined;
  /**
   * Bytes that have come.
   * @param bytes in `readTarget`, or in memory that is used again afterwards
   * @returns false when no more is to come
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
 * Reads a connection that nothing has been read of yet. Its stream has no data any more then.
 * @returns false when that is not possible
 */
export function readReused(socket: Socket, reader: Reader): boolean {
  const { _handle: handle } = socket as ReusingSocket;
  if (!isUsed || typeof handle?.useUserBuffer !== 'function') return false;
  let target: Buffer = SHARED;
  setUp(
    socket,
    (length) => reader.read(target.subarray(0, length)),
    () => (target = reader.readTarget ?? SHARED),
  );
  return true;
}

/** From now on the stream has what comes, and nothing of the reader is kept. */
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
  // Node would go on to write to the last target, which nothing else keeps.
  (socket as ReusingSocket)._handle?.useUserBuffer?.(SHARED);
}

function symbolsOf(object: object, names: readonly string[]): (symbol | undefined)[] {
  const symbols = Object.getOwnPropertySymbols(object);
  return names.map((name) => symbols.find(({ description }) => description === name));
}
