import type { IncomingHttpHeaders } from 'node:http';

/**
 * Exceptions that say the bytes themselves are refused: sending them again can't help. They come from reading our block,
 * from converting its values to the table's types, and from the table's constraints. Names as in ClickHouse 26.7; those
 * that no value of ours can cause are left out.
 *
 * Every other failure, known or not, is retryable: a missing table (60), a wrong password (516), a full disk (243), a
 * quota (201), too many parts (252)… The data stays until it is mended. BAD_ARGUMENTS (36), TYPE_MISMATCH (53) and
 * CANNOT_CONVERT_TYPE (70) are among those: they tell of settings and of column types, which an operator changes.
 * CORRUPTED_DATA (246) and CHECKSUM_DOESNT_MATCH (40) tell of the server's own parts.
 */
const POISON_CODES: ReadonlySet<string> = new Set([
  '6', // CANNOT_PARSE_TEXT
  '9', // SIZES_OF_COLUMNS_DOESNT_MATCH
  '26', // CANNOT_PARSE_QUOTED_STRING
  '27', // CANNOT_PARSE_INPUT_ASSERTION_FAILED
  '32', // ATTEMPT_TO_READ_AFTER_EOF
  '33', // CANNOT_READ_ALL_DATA
  '38', // CANNOT_PARSE_DATE
  '41', // CANNOT_PARSE_DATETIME
  '69', // ARGUMENT_OUT_OF_BOUND
  '72', // CANNOT_PARSE_NUMBER
  '117', // INCORRECT_DATA
  '128', // TOO_LARGE_ARRAY_SIZE
  '131', // TOO_LARGE_STRING_SIZE
  '190', // SIZES_OF_ARRAYS_DONT_MATCH
  '271', // CANNOT_DECOMPRESS
  '321', // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
  '349', // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
  '366', // SIZES_OF_NESTED_COLUMNS_ARE_INCONSISTENT
  '376', // CANNOT_PARSE_UUID
  '407', // DECIMAL_OVERFLOW
  '467', // CANNOT_PARSE_BOOL
  '469', // VIOLATED_CONSTRAINT
  '561', // ZSTD_DECODER_FAILED
  '675', // CANNOT_PARSE_IPV4
  '676', // CANNOT_PARSE_IPV6
  '691', // UNKNOWN_ELEMENT_OF_ENUM
]);

/** Exceptions that say so only when they come from reading our block. */
const POISON_WHILE_READING: ReadonlySet<string> = new Set([
  '3', // UNEXPECTED_END_OF_FILE
  '49', // LOGICAL_ERROR: a size that can't be
  '50', // UNKNOWN_TYPE
  '62', // SYNTAX_ERROR: in the name of a type
  '173', // CANNOT_ALLOCATE_MEMORY: a size that can't be
]);
const WHILE_READING = 'While executing Native';

/**
 * A view's own failure: its author mends it, and the rows may be in the table already. Sent again under the same token,
 * they go to the view alone.
 */
const IN_VIEW = 'while pushing to view';

/** Exceptions and network errors that come before anything is written: the insert may go to another server. */
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
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
]);

const EXCEPTION = /Code: (\d+)\. DB::Exception/;
const MAX_MESSAGE_LENGTH = 1_000;

/** What a server, or whatever stands before it, has answered to an insert. */
export interface InsertAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** As far as it was read; ClickHouse's is empty when the insert is stored. */
  readonly body: string;
}

/** Why an insert failed, decided once. */
export class InsertError extends Error {
  override readonly name = 'InsertError';
  /** ClickHouse's exception code, the system's for a network error, `HTTP 502` for an answer that is not ClickHouse's. */
  readonly code: string;
  /** False if these bytes will never be taken. */
  readonly retryable: boolean;
  /** Whether certainly nothing of the insert is stored. */
  readonly untouched: boolean;

  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    const isPoison = POISON_CODES.has(code) || (POISON_WHILE_READING.has(code) && message.includes(WHILE_READING));
    this.retryable = !isPoison || message.includes(IN_VIEW);
    this.untouched = UNTOUCHED_CODES.has(code);
  }

  /**
   * Undefined if the answer is ClickHouse's own that the insert is stored: a 200 under its query id, without an exception,
   * and nothing in it. Whatever else comes with a 200, from a proxy's page on, does not mean stored.
   */
  static fromAnswer({ status, headers, body }: InsertAnswer): InsertError | undefined {
    const code = headers['x-clickhouse-exception-code'] ?? EXCEPTION.exec(body)?.[1];
    if (code !== undefined) return new InsertError(String(code), body === '' ? `ClickHouse answered with exception ${String(code)}` : shortened(body));
    if (status !== 200) return new InsertError(`HTTP ${status}`, `HTTP status ${status}${body === '' ? '' : `: ${shortened(body)}`}`);
    if (headers['x-clickhouse-query-id'] !== undefined && body === '') return undefined;
    return new InsertError('HTTP 200', `The answer is not ClickHouse's${body === '' ? '' : `: ${shortened(body)}`}`);
  }

  /** Of what the connection threw. */
  static fromNetwork(error: unknown): InsertError {
    const { code, message } = error as NodeJS.ErrnoException;
    return new InsertError(code ?? 'NETWORK', message === '' ? String(code) : message, error);
  }
}

function shortened(body: string): string {
  return body.trim().slice(0, MAX_MESSAGE_LENGTH);
}
