import type { IncomingHttpHeaders } from 'node:http';
import { codeOf, originOf } from './exception-text.ts';

/**
 * Exceptions that mean that ClickHouse will never take these bytes, when it raises them while it parses our block (which includes the
 * conversion to the table's types). A retry can't help. Names as in ClickHouse 26.7.
 *
 * Raised by a computed column, an index or a view, the same exceptions are for the operator to fix, and retryable. Every other failure,
 * known or not, is retryable as well: a missing table (60), a wrong password (516), a full disk (243), a quota (201), too many parts
 * (252)… The data is kept until the cause is fixed. That includes BAD_ARGUMENTS (36), TYPE_MISMATCH (53) and CANNOT_CONVERT_TYPE (70),
 * which come from settings and column types, and CORRUPTED_DATA (246) and CHECKSUM_DOESNT_MATCH (40), which concern the server's own
 * parts.
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

/** Exceptions that mean the same wherever ClickHouse raises them: our block is broken, or violates a constraint of the table. */
const POISON_IN_ANY_CASE: ReadonlySet<string> = new Set([
  '271', // CANNOT_DECOMPRESS
  '366', // SIZES_OF_NESTED_COLUMNS_ARE_INCONSISTENT
  '469', // VIOLATED_CONSTRAINT
  '561', // ZSTD_DECODER_FAILED
]);

/** Exception 190 about the arrays of Events or Links. Functions of a computed column raise 190 with another message. */
const UNEVEN_ARRAYS = /^Code: 190\. DB::Exception: Elements '[\w.]+' and '[\w.]+' of Nested data structure /;

/** Exceptions that ClickHouse raises before it writes anything: the insert may go to another server. */
const NOTHING_STORED_CODES: ReadonlySet<string> = new Set([
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

/** System errors that mean no connection was made. */
const NOT_CONNECTED: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);

/** A longer message is shortened to its start and its end, in characters. */
const MESSAGE_HEAD_LENGTH = 600;
const MESSAGE_TAIL_LENGTH = 400;

/** The HTTP response to an insert, from ClickHouse or from a proxy. */
export interface InsertAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** At least its start and its end. ClickHouse's body is empty when the insert is stored. */
  readonly body: string;
}

/** What a failure means for the insert. */
interface Verdict {
  /** False if ClickHouse will never take these bytes. */
  readonly retryable: boolean;
  /** Whether nothing of the insert is stored, for certain. */
  readonly nothingStored: boolean;
  /** Whether ClickHouse may have written some of the rows before it failed: in a view, or on one of several shards. */
  readonly maybePartlyStored?: boolean;
}

const UNKNOWN_OUTCOME: Verdict = { retryable: true, nothingStored: false };
const MAYBE_PARTLY_STORED: Verdict = { ...UNKNOWN_OUTCOME, maybePartlyStored: true };

/** A failed insert, classified once: callers read the fields, never the message. */
export class InsertError extends Error implements Verdict {
  override readonly name = 'InsertError';
  /** The code of ClickHouse's exception; for a network error, the system's; for a response of a proxy, `HTTP 502`. */
  readonly code: string;
  readonly retryable: boolean;
  readonly nothingStored: boolean;
  readonly maybePartlyStored: boolean;

  constructor(code: string, message: string, verdict = UNKNOWN_OUTCOME, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.retryable = verdict.retryable;
    this.nothingStored = verdict.nothingStored;
    this.maybePartlyStored = verdict.maybePartlyStored === true;
  }

  /**
   * Classifies a response. Undefined if ClickHouse itself confirms that the insert is stored: status 200 with a query id, no exception,
   * and an empty body. Any other 200, as a proxy's page, does not mean stored.
   */
  static fromAnswer({ status, headers, body }: InsertAnswer): InsertError | undefined {
    const code = headers['x-clickhouse-exception-code'] ?? codeOf(body);
    if (code !== undefined) return fromException(String(code), body);
    if (status !== 200) return new InsertError(`HTTP ${status}`, `HTTP status ${status}${body === '' ? '' : `: ${shortened(body)}`}`);
    if (headers['x-clickhouse-query-id'] !== undefined && body === '') return undefined;
    return new InsertError('HTTP 200', `The response is not from ClickHouse${body === '' ? '' : `: ${shortened(body)}`}`);
  }

  /** An insert without a complete response in time. It may be stored. */
  static timeout(message: string, cause: unknown): InsertError {
    return new InsertError('TIMEOUT', message, UNKNOWN_OUTCOME, cause);
  }

  /** Classifies an error of the connection. */
  static fromNetwork(error: unknown): InsertError {
    const { code = 'NETWORK', message } = error as NodeJS.ErrnoException;
    return new InsertError(code, message === '' ? code : message, { retryable: true, nothingStored: NOT_CONNECTED.has(code) }, error);
  }
}

function fromException(code: string, text: string): InsertError {
  return new InsertError(code, text === '' ? `ClickHouse answered with exception ${code}` : shortened(text), verdictOn(code, text));
}

/**
 * Classifies an exception. When a view fails, which its author has to fix, the rows are in the table already; and one shard may have
 * stored what another refuses. A retry with the same token stores the rows only where they are missing.
 */
function verdictOn(code: string, text: string): Verdict {
  const origin = originOf(text);
  if (origin === 'reading') return { retryable: !POISON_WHILE_READING.has(code), nothingStored: false };
  if (origin === 'server')
    return { retryable: !POISON_IN_ANY_CASE.has(code) && !UNEVEN_ARRAYS.test(text), nothingStored: NOTHING_STORED_CODES.has(code) };
  return origin === 'unknown' ? UNKNOWN_OUTCOME : MAYBE_PARTLY_STORED;
}

function shortened(body: string): string {
  const text = body.trim();
  if (text.length <= MESSAGE_HEAD_LENGTH + MESSAGE_TAIL_LENGTH) return text;
  return `${text.slice(0, MESSAGE_HEAD_LENGTH)} … ${text.slice(-MESSAGE_TAIL_LENGTH)}`;
}
