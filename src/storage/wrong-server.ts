import { ClickHouseError } from '@clickhouse/client';

/** CLICKHOUSE_URL names something that is not the HTTP interface of a ClickHouse. The message says what to set. */
export class WrongServerError extends Error {
  override readonly name = 'WrongServerError';
  /** The code of the original error: that of the system, of OpenSSL or of the HTTP parser. */
  readonly code: string | undefined;

  constructor(cause: (Error & { code?: string }) | undefined, message: string) {
    super(message, { cause });
    this.code = cause?.code;
  }
}

/** Content type of a TLS record that is an alert (RFC 8446, 5.1). */
const TLS_ALERT = 0x15;
const NO_TLS = /^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG)$/;
const NO_TLS_TEXT = /:(wrong version number|packet length too long):/;
const NATIVE = /^Port \d+ is for clickhouse-client program\s+You must use port (\d+) for HTTP/;
/** The answer of nginx, Go and others to a plain request on a port for TLS. */
const WANTS_TLS = /\bHTTP request (was sent )?to (an )?HTTPS (port|server)\b/;
/** Errors with the ClickHouse client's own messages. All others without a code have the text of a response as their message. */
const NO_ANSWER = /^(Timeout error\.|The user aborted a request\.)$/;
const EXCERPT_LENGTH = 150;

type Failure = Error & { code?: string; rawPacket?: Buffer };

/** Converts an error of a query to a WrongServerError if the server is no ClickHouse; otherwise returns the error itself. */
export function explained(error: Failure): Error {
  const { code, message, rawPacket } = error;
  if (error instanceof ClickHouseError || NO_ANSWER.test(message)) return error;
  if (code === 'EPROTO' ? NO_TLS_TEXT.test(message) : NO_TLS.test(code ?? ''))
    return new WrongServerError(
      error,
      'The server does not speak TLS on this port. Set http:// in CLICKHOUSE_URL, or the port for https:// (8443).',
    );
  if (rawPacket?.[0] === TLS_ALERT || (code === undefined && WANTS_TLS.test(message)))
    return new WrongServerError(
      error,
      'The server speaks TLS on this port. Set https:// in CLICKHOUSE_URL, or the port for http:// (8123).',
    );
  // ClickHouse closes connections in this way when it gets plain HTTP on its port for TLS, but also when it ends.
  if (message === 'socket hang up')
    return new WrongServerError(
      error,
      'The server closed the connection without an answer (socket hang up). If this port is for TLS, set https:// in CLICKHOUSE_URL.',
    );
  if (code?.startsWith('HPE_') === true)
    return new WrongServerError(
      error,
      `The server does not speak HTTP (${message}). Set its HTTP port (8123, or 8443 with https://) in CLICKHOUSE_URL.`,
    );
  const [, httpPort] = NATIVE.exec(message) ?? [];
  if (httpPort !== undefined)
    return new WrongServerError(
      error,
      `This is ClickHouse's port for its native protocol. Set its HTTP port, ${httpPort}, in CLICKHOUSE_URL.`,
    );
  return code === undefined ? notClickHouse(message, error) : error;
}

/** Makes the error for a response that is not from ClickHouse. @param answer its text */
export function notClickHouse(answer: string, cause?: Error): WrongServerError {
  const text = answer.replaceAll(/\s+/g, ' ').trim();
  const excerpt = text.length > EXCERPT_LENGTH ? `${text.slice(0, EXCERPT_LENGTH)} …` : text;
  return new WrongServerError(
    cause,
    `The response is not from ClickHouse: ${JSON.stringify(excerpt)}. ` +
      'Set its HTTP port (8123, or 8443 with https://) in CLICKHOUSE_URL, or a proxy that forwards to it.',
  );
}
