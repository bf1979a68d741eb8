import { ClickHouseError } from '@clickhouse/client';

/**
 * Exceptions that say the bytes themselves are refused: sending them again can't help, whatever an operator does. Every
 * other failure, known or not, is retryable: the data stays until it is mended.
 */
const POISON_CODES: ReadonlySet<string> = new Set([
  '6', // CANNOT_PARSE_TEXT
  '26', // CANNOT_PARSE_QUOTED_STRING
  '27', // CANNOT_PARSE_INPUT_ASSERTION_FAILED
  '32', // ATTEMPT_TO_READ_AFTER_EOF
  '33', // CANNOT_READ_ALL_DATA
  '36', // BAD_ARGUMENTS
  '38', // CANNOT_PARSE_DATE
  '41', // CANNOT_PARSE_DATETIME
  '69', // ARGUMENT_OUT_OF_BOUND
  '72', // CANNOT_PARSE_NUMBER
  '117', // INCORRECT_DATA
  '128', // TOO_LARGE_ARRAY_SIZE
  '131', // TOO_LARGE_STRING_SIZE
  '190', // SIZES_OF_ARRAYS_DONT_MATCH
  '228', // TOO_LARGE_SIZE_COMPRESSED
  '246', // CORRUPTED_DATA
  '271', // CANNOT_DECOMPRESS
  '349', // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
  '469', // VIOLATED_CONSTRAINT
  '561', // ZSTD_DECODER_FAILED
]);

/** Why an insert failed, decided once. `code` is ClickHouse's, or the system's for a network error. */
export class InsertError extends Error {
  readonly code: string;
  readonly retryable: boolean;

  private constructor(code: string, message: string, retryable: boolean, cause: unknown) {
    super(message, { cause });
    this.name = 'InsertError';
    this.code = code;
    this.retryable = retryable;
  }

  /** Classifies whatever the client threw. */
  static from(error: unknown): InsertError {
    if (error instanceof ClickHouseError) return new InsertError(error.code, `${error.type ?? 'ClickHouse'}: ${error.message}`, !POISON_CODES.has(error.code), error);
    const { code, message } = error as NodeJS.ErrnoException;
    return new InsertError(code ?? 'NETWORK', message, true, error);
  }

  /** The exception of a response whose status was 200 nevertheless. */
  static fromHeader(code: string): InsertError {
    return new InsertError(code, `ClickHouse answered with exception ${code} after it had begun to answer 200`, !POISON_CODES.has(code), undefined);
  }
}
