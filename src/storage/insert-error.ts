import type { IncomingHttpHeaders } from 'node:http';
import { codeOf, originOf } from './exception-text.ts';

/**
 * Exceptions that say the bytes themselves are refused, when they arise while our block is read: sending it again can't
 * help. Reading converts its values to the table's types too. Names as in ClickHouse 26.7.
 *
 * The same exceptions come from a computed column, an index, a view: those are the operator's to mend. Every other failure,
 * known or not, is retryable as well: a missing table (60), a wrong password (516), a full disk (243), a quota (201), too
 * many parts (252)… The data stays until it is mended. BAD_ARGUMENTS (36), TYPE_MISMATCH (53) and CANNOT_CONVERT_TYPE (70)
 * are among those: they tell of settings and of column types, which an operator changes. CORRUPTED_DATA (246) and
 * CHECKSUM_DOESNT_MATCH (40) tell of the server's own parts.
 */
const POISON_WHILE_READING: ReadonlySet<string> = new Set([
  '3', // UNEXPECTED_END_OF_FILE
  '6', // CANNOT_PARSE_TEXT
  '9', // SIZES_OF_COLUMNS_DOESNT_MATCH
  '26', // CANNOT_PARSE_QUOTED_STRING
  '27', // CANNOT_PARSE_INPUT_ASSERTION_FAILED
  '32', // ATTEMPT_TO_READ_AFTER_EOF
  '33', // CANNOT_READ_ALL_DATA
  '38', // CANNOT_PARSE_DATE
  '41', // CANNOT_PARSE_DATETIME
  '42', // NUMBER_OF_ARGUMENTS_DOESNT_MATCH: in the name of a type
  '49', // LOGICAL_ERROR: a size that can't be
  '50', // UNKNOWN_TYPE
  '62', // SYNTAX_ERROR: in the name of a type
  '69', // ARGUMENT_OUT_OF_BOUND
  '72', // CANNOT_PARSE_NUMBER
  '117', // INCORRECT_DATA
  '128', // TOO_LARGE_ARRAY_SIZE
  '131', // TOO_LARGE_STRING_SIZE
  '173', // CANNOT_ALLOCATE_MEMORY: a size that can't be
  '190', // SIZES_OF_ARRAYS_DONT_MATCH
  '271', // CANNOT_DECOMPRESS
  '321', // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
  '349', // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
  '376', // CANNOT_PARSE_UUID
  '407', // DECIMAL_OVERFLOW
  '467', // CANNOT_PARSE_BOOL
  '561', // ZSTD_DECODER_FAILED
  '675', // CANNOT_PARSE_IPV4
  '676', // CANNOT_PARSE_IPV6
  '691', // UNKNOWN_ELEMENT_OF_ENUM
]);

/** Exceptions of the server that can only mean our block, or break a rule the operator has made for it. */
const POISON_IN_ANY_CASE: ReadonlySet<string> = new Set([
  '271', // CANNOT_DECOMPRESS
  '366', // SIZES_OF_NESTED_COLUMNS_ARE_INCONSISTENT
  '469', // VIOLATED_CONSTRAINT
  '561', // ZSTD_DECODER_FAILED
]);

/** The arrays of Events or Links; functions of a computed column raise 190 in other words. */
const UNEVEN_ARRAYS = /^Code: 190\. DB::Exception: Elements '[\w.]+' and '[\w.]+' of Nested data structure /;

/** Exceptions of the server that come before anything is written: the insert may go to another server. */
const UNTOUCHED_CODES: ReadonlySet<string> = new Set([
  '60', // UNKNOWN_TABLE
  '81', // UNKNOWN_DATABASE
  '164', // READONLY
  '192', // UNKNOWN_USER
  '193', // WRONG_PASSWORD
  '194', // REQUIRED_PASSWORD
  '195', // IP_ADDRESS_NOT_ALLOWED
  '202', // TOO_MANY_SIMULTANEOUS_QUERIES
  '497', // ACCESS_DENIED
  '516', // AUTHENTICATION_FAILED
]);

/** The connection was never made. */
const NOT_CONNECTED: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);

/** What is kept for people of a longer text: its ends. */
const MESSAGE_HEAD_LENGTH = 600;
const MESSAGE_TAIL_LENGTH = 400;

/** What a server, or whatever stands before it, has answered to an insert. */
export interface InsertAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Both its ends at least; ClickHouse's is empty when the insert is stored. */
  readonly body: string;
}

/** What follows from a failure. */
interface Verdict {
  /** False if these bytes will never be taken. */
  readonly retryable: boolean;
  /** Whether certainly nothing of the insert is stored. */
  readonly untouched: boolean;
  /** Whether ClickHouse failed when it may have written rows: in a view, or with some of several shards. */
  readonly halfDone?: boolean;
}

const NOBODY_KNOWS: Verdict = { retryable: true, untouched: false };
const HALF_DONE: Verdict = { ...NOBODY_KNOWS, halfDone: true };

/** Why an insert failed, decided once. */
export class InsertError extends Error implements Verdict {
  override readonly name = 'InsertError';
  /** ClickHouse's exception code, the system's for a network error, `HTTP 502` for an answer that is not ClickHouse's. */
  readonly code: string;
  readonly retryable: boolean;
  readonly untouched: boolean;
  readonly halfDone: boolean;

  constructor(code: string, message: string, verdict = NOBODY_KNOWS, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.retryable = verdict.retryable;
    this.untouched = verdict.untouched;
    this.halfDone = verdict.halfDone === true;
  }

  /**
   * Undefined if the answer is ClickHouse's own that the insert is stored: a 200 under its query id, without an exception,
   * and nothing in it. Whatever else comes with a 200, from a proxy's page on, does not mean stored.
   */
  static fromAnswer({ status, headers, body }: InsertAnswer): InsertError | undefined {
    const code = headers['x-clickhouse-exception-code'] ?? codeOf(body);
    if (code !== undefined) return fromException(String(code), body);
    if (status !== 200) return new InsertError(`HTTP ${status}`, `HTTP status ${status}${body === '' ? '' : `: ${shortened(body)}`}`);
    if (headers['x-clickhouse-query-id'] !== undefined && body === '') return undefined;
    return new InsertError('HTTP 200', `The answer is not ClickHouse's${body === '' ? '' : `: ${shortened(body)}`}`);
  }

  static timeout(message: string, cause: unknown): InsertError {
    return new InsertError('TIMEOUT', message, NOBODY_KNOWS, cause);
  }

  /** Of what the connection threw. */
  static fromNetwork(error: unknown): InsertError {
    const { code = 'NETWORK', message } = error as NodeJS.ErrnoException;
    return new InsertError(code, message === '' ? code : message, { retryable: true, untouched: NOT_CONNECTED.has(code) }, error);
  }
}

function fromException(code: string, text: string): InsertError {
  return new InsertError(code, text === '' ? `ClickHouse answered with exception ${code}` : shortened(text), verdictOn(code, text));
}

/**
 * What fails in a view, whose author mends it, has its rows in the table already, and one shard may have what another
 * refuses. Sent again under the same token, they go where they are missing.
 */
function verdictOn(code: string, text: string): Verdict {
  const origin = originOf(text);
  if (origin === 'reading') return { retryable: !POISON_WHILE_READING.has(code), untouched: false };
  if (origin === 'server')
    return { retryable: !POISON_IN_ANY_CASE.has(code) && !UNEVEN_ARRAYS.test(text), untouched: UNTOUCHED_CODES.has(code) };
  return origin === 'unknown' ? NOBODY_KNOWS : HALF_DONE;
}

function shortened(body: string): string {
  const text = body.trim();
  if (text.length <= MESSAGE_HEAD_LENGTH + MESSAGE_TAIL_LENGTH) return text;
  return `${text.slice(0, MESSAGE_HEAD_LENGTH)} … ${text.slice(-MESSAGE_TAIL_LENGTH)}`;
}
