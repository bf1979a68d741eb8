import type { IncomingHttpHeaders } from 'node:http';
import { bodySlab } from '../runtime/body-slab.ts';
import { isHost } from './host.ts';

/*
 * Requests as nearly all senders write them, read without node:http, whose way costs a small one as much as its spans:
 *
 *   POST /v1/traces HTTP/1.1 ↵   with a slash more before or behind the path, or without
 *   name: value ↵             … with one Host, and one Content-Length or Transfer-Encoding: chunked
 *   ↵
 *   body                      … as it is, or in chunks that have neither extensions nor trailers
 *
 * That is a small part of what RFC 9112 allows: the part that all parsers read in the same way. Nothing else is judged here:
 * node:http reads it, from its first byte on. test/unit/plain-requests.test.ts compares both.
 */

const NOTHING: readonly Uint8Array[] = [];

/** A plain request that is there from its first byte to its last. It owns the memory of its body. */
export class PlainRequest {
  readonly headers: IncomingHttpHeaders;
  /** The body as it was sent, without chunks. */
  readonly chunks: Uint8Array[];
  readonly bodyLength: number;
  /** What the chunks are parts of. */
  private ownedMemory: readonly Uint8Array[];

  constructor(headers: IncomingHttpHeaders, chunks: Uint8Array[], bodyLength: number, ownedMemory: readonly Uint8Array[]) {
    this.headers = headers;
    this.chunks = chunks;
    this.bodyLength = bodyLength;
    this.ownedMemory = ownedMemory;
  }

  /** Gives the memory of the body back: its bytes are gone. Only the first call does anything. */
  free(): void {
    for (const memory of this.ownedMemory) bodySlab.release(memory);
    this.ownedMemory = NOTHING;
  }

  /** Leaves the memory to the garbage collector, as other code may still read it. `free` does nothing then. */
  abandon(): void {
    this.ownedMemory = NOTHING;
  }
}

/** Longer requests gain nothing here. */
const MAX_BODY_BYTES = 1024 * 1024;
const MAX_HEAD_BYTES = 8 * 1024;
const MAX_HEADERS = 64;
/** Of Content-Length. */
const MAX_DIGITS = 8;
const MAX_CHUNKS = 64;

/** Exporters join endpoint and path in these ways; traces-path.ts says what else is taken. */
const PATHS = ['/v1/traces', '//v1/traces', '/v1/traces/', '//v1/traces/'];
const REQUEST_LINES: readonly string[] = PATHS.map((path) => `POST ${path} HTTP/1.1`);
const REQUEST_LINES_BYTES = REQUEST_LINES.map((line) => Buffer.from(`${line}\r\n`));
const CRLF = '\r\n';
const END_OF_HEAD = Buffer.from('\r\n\r\n');
/** RFC 9110, 5.1 and 5.5; without tabs, which node:http does not take for spaces everywhere. */
const HEADER = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\x20-\x7e\x80-\xff]*)$/;
/** Headers that are used. A request that has one of them twice is left to node:http. */
const READ: ReadonlySet<string> = new Set([
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'content-type',
  'content-encoding',
  'authorization',
  'x-hive-target-ref',
  'x-request-id',
  'user-agent',
  'traceparent',
]);
/** Headers of requests that are left to node:http: they ask for a 100 Continue, come from a page, or may end the connection. */
const NOT_HERE: ReadonlySet<string> = new Set(['expect', 'origin', 'proxy-connection']);

/**
 * Between two chunks: the end of the one, the length of the other; and the end of the body, if that is the last. The first chunk has
 * no end of another in front of it: it is added before the text is compared.
 */
const CHUNK_LINE = /^\r\n([0-9a-f]{1,8})\r\n(\r\n)?/i;
const CHUNK_LINE_BYTES = 14;
/** The beginning of one. */
const CHUNK_LINE_BEGIN = /^(?:|\r|\r\n[0-9a-f]{0,8}|\r\n[0-9a-f]{1,8}\r|\r\n0{1,8}\r\n\r?)$/i;

/** Request line and headers. */
interface Head {
  /** Those that are used. */
  readonly headers: IncomingHttpHeaders;
  /** Its bytes as far as the digits of Content-Length, and those behind them. Of a body in chunks all, and none. */
  readonly before: Buffer;
  readonly after: Buffer;
  readonly isChunked: boolean;
}

/** What the bytes so far are: a request, the beginning of one, or something that node:http must read. */
export type ParseResult = 'complete' | 'partial' | 'unsupported';

/**
 * Reads the requests of one connection, one at a time. The heads of one sender are all the same but for their lengths: the last head
 * is remembered, and compared before one is parsed.
 */
export class PlainRequestReader {
  /** Reads that the request has come in so far. */
  reads = 0;
  private head: Head | undefined;
  private isInBody = false;
  /** Bytes of the request that have come, except for what is in `body`. */
  private kept: Buffer[] = [];
  /** A body whose length is known and that is wanted is read to here, and so many bytes of it have come. */
  private body: Buffer | undefined;
  private filled = 0;
  /** The chunks of another body; and those in the bytes that are read now, as offsets: begin, end, begin, … */
  private chunks: Uint8Array[] = [];
  private ranges: number[] = [];
  private bodyLength = 0;
  /** Bytes that have not come yet of the body, or of the chunk. */
  private missing = 0;
  /** At the beginning of a chunk: what has come of the line in front of it. */
  private chunkLine = '';
  private chunkCount = 0;
  private readonly isWanted: (headers: IncomingHttpHeaders) => boolean;

  /** @param isWanted whether the body of a request with these headers may take memory before it has come */
  constructor(isWanted: (headers: IncomingHttpHeaders) => boolean) {
    this.isWanted = isWanted;
  }

  /** The headers of the request that is read, once they have come. */
  get headers(): IncomingHttpHeaders | undefined {
    return this.isInBody ? this.head?.headers : undefined;
  }

  /** Where the next bytes are to be read to; undefined: anywhere. */
  get readTarget(): Buffer | undefined {
    return this.body?.subarray(this.filled);
  }

  /** Memory that the request which is read takes, in bytes. */
  get heldBytes(): number {
    return this.kept.reduce((sum, { length }) => sum + length, this.body?.length ?? 0);
  }

  /**
   * Reads the next bytes of the connection. After 'unsupported' it must not be called again.
   * @param bytes in `readTarget`, or in memory that is used again afterwards
   * @param keepsBytes whether `takeBytes` is called for the request even if it is complete
   */
  read(bytes: Buffer, keepsBytes = false): ParseResult {
    this.reads++;
    if (this.body !== undefined) return this.fill(this.body, bytes);
    const next = this.isInBody || this.kept.length === 0 ? bytes : Buffer.concat([...this.kept.splice(0), bytes]);
    const result = this.isInBody ? this.readBody(next, 0) : this.readHead(next);
    if (result === 'complete' && this.kept.length === 0 && !keepsBytes) this.takeRanges(next);
    else if (this.body === undefined) this.keep(next);
    return result;
  }

  /** The request that is complete. The next one can be read then. */
  take(): PlainRequest {
    const { head, chunks, bodyLength, body, kept } = this;
    this.forget();
    return new PlainRequest(head!.headers, chunks, bodyLength, body === undefined ? kept : [body]);
  }

  /** All bytes that have come of the request, from its first on. */
  takeBytes(): Buffer[] {
    const { body, filled, kept } = this;
    // A copy, without the memory for the rest of the body.
    if (body !== undefined) kept.push(Buffer.from(body.subarray(0, filled)));
    this.forget();
    return kept;
  }

  private forget(): void {
    this.reads = 0;
    this.isInBody = false;
    this.kept = [];
    this.body = undefined;
    this.chunks = [];
    this.bodyLength = 0;
    this.chunkCount = 0;
  }

  private readHead(bytes: Buffer): ParseResult {
    let bodyBegin = this.head === undefined ? undefined : this.bodyBeginIn(bytes, this.head);
    if (bodyBegin === undefined) {
      const end = bytes.subarray(0, MAX_HEAD_BYTES).indexOf(END_OF_HEAD);
      if (end < 0) return bytes.length < MAX_HEAD_BYTES && canBecomeRequestLine(bytes) ? 'partial' : 'unsupported';
      this.head = readHead(bytes.subarray(0, end + END_OF_HEAD.length));
      bodyBegin = this.head === undefined ? undefined : this.bodyBeginIn(bytes, this.head);
      if (bodyBegin === undefined) return 'unsupported';
    }
    this.isInBody = true;
    this.chunkLine = CRLF;
    this.bodyLength = this.missing;
    const result = this.readBody(bytes, bodyBegin);
    if (result === 'partial' && !this.head!.isChunked && this.isWanted(this.head!.headers)) this.makeReadTarget(bytes, bodyBegin);
    return result;
  }

  /** Where the body begins, if `bytes` begin with this head whatever length they say. Notes the length. */
  private bodyBeginIn(bytes: Buffer, { before, after, isChunked }: Head): number | undefined {
    let at = before.length;
    if (bytes.length < at || before.compare(bytes, 0, at) !== 0) return undefined;
    this.missing = 0;
    if (isChunked) return at;
    for (let digit = bytes[at] - 0x30; digit >= 0 && digit <= 9; digit = bytes[++at] - 0x30) this.missing = this.missing * 10 + digit;
    const digits = at - before.length;
    const begin = at + after.length;
    const isSame = digits > 0 && digits <= MAX_DIGITS && bytes.length >= begin && after.compare(bytes, at, begin) === 0;
    return isSame ? begin : undefined;
  }

  private readBody(bytes: Buffer, begin: number): ParseResult {
    if (this.head!.isChunked) return this.readChunks(bytes, begin);
    if (bytes.length - begin > this.missing || this.bodyLength > MAX_BODY_BYTES) return 'unsupported';
    this.takePart(bytes, begin);
    return this.missing === 0 ? 'complete' : 'partial';
  }

  /** Makes room for a body whose beginning has come with its head. */
  private makeReadTarget(bytes: Buffer, begin: number): void {
    this.kept.push(Buffer.from(bytes.subarray(0, begin)));
    // One more than there should be: a read that leaves room is known to be the last.
    this.body = Buffer.allocUnsafeSlow(this.bodyLength + 1);
    this.filled = bytes.copy(this.body, 0, begin);
    this.ranges = [];
  }

  private fill(body: Buffer, bytes: Buffer): ParseResult {
    const copied = bytes.buffer === body.buffer ? bytes.length : bytes.copy(body, this.filled);
    this.filled += copied;
    if (this.filled < this.bodyLength) return 'partial';
    if (this.filled === this.bodyLength) {
      this.chunks = [body.subarray(0, this.filled)];
      return 'complete';
    }
    this.kept = [...this.takeBytes(), Buffer.from(bytes.subarray(copied))];
    return 'unsupported';
  }

  private readChunks(bytes: Buffer, begin: number): ParseResult {
    for (let at = begin; ;) {
      at = this.takePart(bytes, at);
      if (this.missing > 0) return 'partial';

      const known = this.chunkLine.length;
      const text = this.chunkLine + bytes.toString('latin1', at, at + CHUNK_LINE_BYTES - known);
      const [line, size, end] = CHUNK_LINE.exec(text) ?? [];
      const chunkBytes = size === undefined ? 0 : Number.parseInt(size, 16);
      if (size === undefined || (chunkBytes === 0 && end === undefined)) {
        this.chunkLine = text;
        return CHUNK_LINE_BEGIN.test(text) ? 'partial' : 'unsupported';
      }
      if (chunkBytes === 0) return at + line!.length - known === bytes.length ? 'complete' : 'unsupported';
      this.bodyLength += chunkBytes;
      if (++this.chunkCount > MAX_CHUNKS || this.bodyLength > MAX_BODY_BYTES) return 'unsupported';
      this.missing = chunkBytes;
      this.chunkLine = '';
      at += CRLF.length + size.length + CRLF.length - known;
    }
  }

  /** Notes the part of the body, or of the chunk, that is in `bytes`. @returns where it ends */
  private takePart(bytes: Buffer, begin: number): number {
    const end = Math.min(bytes.length, begin + this.missing);
    if (end > begin) this.ranges.push(begin, end);
    this.missing -= end - begin;
    return end;
  }

  /** Copies the body of a request that came in one read to memory of its own: it can be freed before others that came with it. */
  private takeRanges(bytes: Buffer): void {
    const { ranges } = this;
    if (ranges.length === 0) return;
    const body = bodySlab.alloc(this.bodyLength);
    let end = 0;
    for (let at = 0; at < ranges.length; at += 2) end += bytes.copy(body, end, ranges[at], ranges[at + 1]);
    this.ranges = [];
    this.chunks.push(body);
    this.kept.push(body);
  }

  private keep(bytes: Buffer): void {
    const { ranges } = this;
    const own = Buffer.from(bytes);
    for (let at = 0; at < ranges.length; at += 2) this.chunks.push(own.subarray(ranges[at], ranges[at + 1]));
    this.ranges = [];
    this.kept.push(own);
  }
}

function canBecomeRequestLine(bytes: Buffer): boolean {
  return REQUEST_LINES_BYTES.some((line) => {
    const length = Math.min(bytes.length, line.length);
    return line.compare(bytes, 0, length, 0, length) === 0;
  });
}

/** @param bytes as far as the empty line @returns undefined when it is not written as at the top of this file */
function readHead(bytes: Buffer): Head | undefined {
  const text = bytes.toString('latin1');
  const [requestLine, ...lines] = text.slice(0, -END_OF_HEAD.length).split(CRLF);
  if (!REQUEST_LINES.includes(requestLine) || lines.length > MAX_HEADERS) return undefined;
  const read = new Map<string, string>();
  for (const line of lines) {
    const [, givenName, value] = HEADER.exec(line) ?? [];
    const name = givenName?.toLowerCase();
    if (name === undefined || NOT_HERE.has(name) || read.has(name)) return undefined;
    if (READ.has(name)) read.set(name, withoutSpaceAround(value));
  }

  const length = read.get('content-length');
  const transferEncoding = read.get('transfer-encoding')?.toLowerCase();
  const isChunked = transferEncoding === 'chunked';
  const hasOneLength = length === undefined ? isChunked : transferEncoding === undefined;
  const staysOpen = (read.get('connection') ?? 'keep-alive').toLowerCase() === 'keep-alive';
  const host = read.get('host');
  if (host === undefined || !isHost(host) || !hasOneLength || !staysOpen) return undefined;

  const headers = {
    'authorization': read.get('authorization'),
    'content-encoding': read.get('content-encoding'),
    'content-type': read.get('content-type'),
    'x-hive-target-ref': read.get('x-hive-target-ref'),
    'x-request-id': read.get('x-request-id'),
    // Of self-tracing.
    'user-agent': read.get('user-agent'),
    'traceparent': read.get('traceparent'),
  };
  const lengthAt = isChunked ? bytes.length : beginOfLength(text);
  const lengthEnd = lengthAt + (length?.length ?? 0);
  // Copies: the memory that was read into is used again.
  return { headers, isChunked, before: Buffer.from(bytes.subarray(0, lengthAt)), after: Buffer.from(bytes.subarray(lengthEnd)) };
}

/** A value without the spaces around it. `trim` would take away more. */
function withoutSpaceAround(value: string): string {
  let begin = 0;
  let end = value.length;
  while (begin < end && value[begin] === ' ') begin++;
  while (end > begin && value[end - 1] === ' ') end--;
  return value.slice(begin, end);
}

/** Where the value of Content-Length begins. */
function beginOfLength(head: string): number {
  const { index, 0: line } = /\r\ncontent-length: */i.exec(head)!;
  return index + line.length;
}
