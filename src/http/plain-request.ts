import type { IncomingHttpHeaders } from 'node:http';
import { bodySlab } from '../runtime/body-slab.ts';
import { isHost } from './host.ts';

/*
 * Reads plain requests, the form that nearly all senders use, without node:http, which takes as long for a small request as transcoding:
 *
 *   POST /v1/traces HTTP/1.1 ↵   optionally with one more slash before or after the path
 *   name: value ↵             … with one Host, and one Content-Length or Transfer-Encoding: chunked
 *   ↵
 *   body                      … unchanged, or in chunks without extensions and trailers
 *
 * This is a small subset of RFC 9112, which all parsers read in the same way. Any other request is read by node:http from its first
 * byte on. test/unit/plain-requests.test.ts compares both.
 */

const NOTHING: readonly Uint8Array[] = [];

/** A complete plain request. It owns the memory of its body. */
export class PlainRequest {
  readonly headers: IncomingHttpHeaders;
  /** The body as sent, without chunk headers. */
  readonly chunks: Uint8Array[];
  readonly bodyLength: number;
  /** The buffers that contain the chunks. */
  private ownedMemory: readonly Uint8Array[];

  constructor(headers: IncomingHttpHeaders, chunks: Uint8Array[], bodyLength: number, ownedMemory: readonly Uint8Array[]) {
    this.headers = headers;
    this.chunks = chunks;
    this.bodyLength = bodyLength;
    this.ownedMemory = ownedMemory;
  }

  /** Frees the memory of the body, which must not be read afterwards. Only the first call has an effect. */
  free(): void {
    for (const memory of this.ownedMemory) bodySlab.release(memory);
    this.ownedMemory = NOTHING;
  }

  /** Leaves the memory to the garbage collector, as other code may still read it. `free` does nothing then. */
  abandon(): void {
    this.ownedMemory = NOTHING;
  }
}

/** For longer requests there is no gain. */
const MAX_BODY_BYTES = 1024 * 1024;
const MAX_HEAD_BYTES = 8 * 1024;
const MAX_HEADERS = 64;
/** Digits of Content-Length. */
const MAX_DIGITS = 8;
const MAX_CHUNKS = 64;

/** The paths that exporters send. traces-path.ts has the other accepted ones. */
const PATHS = ['/v1/traces', '//v1/traces', '/v1/traces/', '//v1/traces/'];
const REQUEST_LINES: readonly string[] = PATHS.map((path) => `POST ${path} HTTP/1.1`);
const REQUEST_LINES_BYTES = REQUEST_LINES.map((line) => Buffer.from(`${line}\r\n`));
const CRLF = '\r\n';
const END_OF_HEAD = Buffer.from('\r\n\r\n');
/** RFC 9110, 5.1 and 5.5; without tabs, which node:http does not treat like spaces everywhere. */
const HEADER = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\x20-\x7e\x80-\xff]*)$/;
/** Headers that are used. A request with one of them twice is left to node:http. */
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
/** Headers of requests that are left to node:http: for a 100 Continue, from a web page, or that may close the connection. */
const UNSUPPORTED: ReadonlySet<string> = new Set(['expect', 'origin', 'proxy-connection']);

/**
 * The text between two chunks: the line end of the first, the length of the second, and the end of the body if that is the last. Before
 * the first chunk there is no line end: it is added before the text is compared.
 */
const CHUNK_LINE = /^\r\n([0-9a-f]{1,8})\r\n(\r\n)?/i;
const CHUNK_LINE_BYTES = 14;
/** An incomplete CHUNK_LINE. */
const CHUNK_LINE_BEGIN = /^(?:|\r|\r\n[0-9a-f]{0,8}|\r\n[0-9a-f]{1,8}\r|\r\n0{1,8}\r\n\r?)$/i;

/** Request line and headers. */
interface Head {
  /** The headers that are used. */
  readonly headers: IncomingHttpHeaders;
  /** Its bytes before and after the digits of Content-Length. For a chunked body: all bytes, and none. */
  readonly before: Buffer;
  readonly after: Buffer;
  readonly isChunked: boolean;
}

/** The result of reading: a complete request, a part of one, or one that node:http must read. */
export type ParseResult = 'complete' | 'partial' | 'unsupported';

/**
 * Reads the requests of one connection, one at a time. The heads of a sender usually differ only in the length: so a head is compared
 * with the last one before it is parsed.
 */
export class PlainRequestReader {
  /** The number of reads of the current request. */
  reads = 0;
  private head: Head | undefined;
  private isInBody = false;
  /** The bytes of the request so far, except those in `body`. */
  private kept: Buffer[] = [];
  /** The buffer for a body of known length, if `isWanted`, and the number of bytes in it. */
  private body: Buffer | undefined;
  private filled = 0;
  /** The chunks of any other body; those in the bytes being read now are offsets in `ranges`: begin, end, begin, … */
  private chunks: Uint8Array[] = [];
  private ranges: number[] = [];
  private bodyLength = 0;
  /** Bytes still missing of the body, or of the chunk. */
  private missing = 0;
  /** Before a chunk: the CHUNK_LINE so far. */
  private chunkLine = '';
  private chunkCount = 0;
  private readonly isWanted: (headers: IncomingHttpHeaders) => boolean;

  /** @param isWanted whether memory may be allocated for the body of a request with these headers before it arrives */
  constructor(isWanted: (headers: IncomingHttpHeaders) => boolean) {
    this.isWanted = isWanted;
  }

  /** The headers of the current request, once they are complete. */
  get headers(): IncomingHttpHeaders | undefined {
    return this.isInBody ? this.head?.headers : undefined;
  }

  /** The buffer to read the next bytes into; undefined if any memory will do. */
  get readTarget(): Buffer | undefined {
    return this.body?.subarray(this.filled);
  }

  /** Memory of the current request, in bytes. */
  get heldBytes(): number {
    return this.kept.reduce((sum, { length }) => sum + length, this.body?.length ?? 0);
  }

  /**
   * Reads the next bytes of the connection. Must not be called after 'unsupported'.
   * @param bytes in `readTarget`, or in memory that is reused after the call
   * @param keepsBytes whether `takeBytes` is called even if the request is complete
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

  /** Returns the complete request. Then the next one can be read. */
  take(): PlainRequest {
    const { head, chunks, bodyLength, body, kept } = this;
    this.forget();
    return new PlainRequest(head!.headers, chunks, bodyLength, body === undefined ? kept : [body]);
  }

  /** Returns all bytes of the request so far. */
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

  /** The offset of the body if `bytes` begin with this head, with any length, which becomes `missing`. */
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

  /** Allocates the buffer of a body whose first bytes arrived with its head. */
  private makeReadTarget(bytes: Buffer, begin: number): void {
    this.kept.push(Buffer.from(bytes.subarray(0, begin)));
    // One byte more than the body: a read that does not fill the buffer is known to be the last.
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

  /** Adds the part of the body, or of the chunk, that is in `bytes`. @returns the offset of its end */
  private takePart(bytes: Buffer, begin: number): number {
    const end = Math.min(bytes.length, begin + this.missing);
    if (end > begin) this.ranges.push(begin, end);
    this.missing -= end - begin;
    return end;
  }

  /** Copies the body of a request that arrived in one read to its own memory, which can be freed independently. */
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

/** Parses a head. @param bytes up to the empty line, included @returns undefined if it is not plain */
function readHead(bytes: Buffer): Head | undefined {
  const text = bytes.toString('latin1');
  const [requestLine, ...lines] = text.slice(0, -END_OF_HEAD.length).split(CRLF);
  if (!REQUEST_LINES.includes(requestLine) || lines.length > MAX_HEADERS) return undefined;
  const read = new Map<string, string>();
  for (const line of lines) {
    const [, givenName, value] = HEADER.exec(line) ?? [];
    const name = givenName?.toLowerCase();
    if (name === undefined || UNSUPPORTED.has(name) || read.has(name)) return undefined;
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
    // For self-tracing.
    'user-agent': read.get('user-agent'),
    'traceparent': read.get('traceparent'),
  };
  const lengthAt = isChunked ? bytes.length : beginOfLength(text);
  const lengthEnd = lengthAt + (length?.length ?? 0);
  // Copies, because the memory that was read into is reused.
  return { headers, isChunked, before: Buffer.from(bytes.subarray(0, lengthAt)), after: Buffer.from(bytes.subarray(lengthEnd)) };
}

/** A value without surrounding spaces. `trim` would remove other characters, too. */
function withoutSpaceAround(value: string): string {
  let begin = 0;
  let end = value.length;
  while (begin < end && value[begin] === ' ') begin++;
  while (end > begin && value[end - 1] === ' ') end--;
  return value.slice(begin, end);
}

/** The offset of the value of Content-Length. */
function beginOfLength(head: string): number {
  const { index, 0: line } = /\r\ncontent-length: */i.exec(head)!;
  return index + line.length;
}
