/*
 * When to retry a refused request, in seconds: sent as Retry-After, and as gRPC's RetryInfo.
 *
 * OpenTelemetry's exporter for JavaScript (otlp-exporter-base, retrying-transport.js) has 10 s for an export with at most 5 retries,
 * and gives up at once when Retry-After is longer than the remaining time:
 *
 *   Retry-After   it sends at          longest outage that it survives
 *        1        0 1 2 3 4 5 s        5 s: no retry is left
 *        2        0 2 4 6 8 s          8 s
 *        3        0 3 6 9 s            9 s, but 6 s as soon as its answers take 0.4 s
 *        5        0 5 s                5 s
 *   none          0 1 2.5 4.8 8.1 s    8.1 s, of which its jitter takes up to 1.6 s
 *
 * There is no jitter: Retry-After has whole seconds only, and 1 or 3 would cost a retry. Senders are spread over time anyway.
 */
const OUTAGE_S = 2;
/** For a short condition, or when another collector should take the request. */
const SOON_S = 1;

/** The HTTP statuses of refused requests (OTLP/HTTP 1.11, and docs/architecture.md). */
export const REFUSAL_STATUSES = [400, 401, 403, 404, 405, 408, 413, 415, 429, 431, 500, 503] as const;
export type RefusalStatus = (typeof REFUSAL_STATUSES)[number];

/**
 * A request is answered with an error. `retryAfterSeconds` is set if a retry can succeed. Code decides by the status only: the
 * message is for the sender.
 */
export class Refusal extends Error {
  readonly status: RefusalStatus;
  readonly retryAfterSeconds: number | undefined;

  constructor(status: RefusalStatus, message: string, retryAfterSeconds?: number) {
    super(message);
    this.name = 'Refusal';
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

// HTTP
export const nothingHere = () => new Refusal(404, 'Not found. Send traces to POST /v1/traces.');
export const onlyOtlp = (path: string) =>
  new Refusal(404, `Not found: ${path}. This collector accepts only OTLP: send traces to POST /v1/traces with an OTLP exporter.`);
export const tracesElsewhere = (port: number) =>
  new Refusal(404, `This port is for health checks. Send traces to POST /v1/traces on port ${port} (PORT).`);
export const onlyTraces = (path: string) => new Refusal(404, `Not found: ${path}. This collector accepts only traces, at POST /v1/traces.`);
export const onlyPost = (method: string) => new Refusal(405, `${method} is not supported here. Send traces with POST /v1/traces.`);
export const noTunnels = () => new Refusal(405, 'CONNECT is not supported here. Send traces with POST /v1/traces.');
export const missingHost = () => new Refusal(400, 'Missing header: Host.');
export const foreignHost = (host: string) =>
  new Refusal(
    403,
    `The status page does not answer to the host name ${JSON.stringify(host)}. Use an IP address, or add the name to ADMIN_ALLOWED_HOSTS.`,
  );
export const foreignOrigin = (origin: string) =>
  new Refusal(403, `Web pages of ${JSON.stringify(origin)} may not send traces. To allow them, add the origin to CORS_ALLOWED_ORIGINS.`);
export const foreignPage = () => new Refusal(403, 'Web pages of other sites may not read this.');
export const brokenHttp = (detail: string) => new Refusal(400, `The request is not valid HTTP/1.1: ${detail}.`);
export const noTls = () =>
  new Refusal(
    400,
    'The request is not valid HTTP/1.1: TLS was sent to a port for plain HTTP. Use http://, or terminate TLS in front of the collector.',
  );
export const noHttp2 = () =>
  new Refusal(400, 'gRPC (HTTP/2) was sent to a port for HTTP/1.1. OTLP/gRPC has its own port, GRPC_PORT, which is off by default.');
export const noHttp1 = (httpPort: number) =>
  new Refusal(400, `This port is for OTLP/gRPC (HTTP/2). Send OTLP/HTTP to POST /v1/traces on port ${httpPort} (PORT).`);
export const noGrpcTls = () =>
  new Refusal(400, 'TLS was sent to a port for gRPC without TLS. Use http:// or "insecure", or terminate TLS in front of the collector.');
export const brokenUrl = (url: string) =>
  new Refusal(400, `The URL ${JSON.stringify(url)} can't be decoded. Send traces to POST /v1/traces.`);
export const headersTooLarge = () => new Refusal(431, 'The headers are larger than 16 KB.');
export const headersTooSlow = () => new Refusal(408, 'The request did not arrive in time (HEADERS_TIMEOUT_MS).');
export const collectorFailed = () => new Refusal(500, 'Internal error. The log of the collector has the cause.');

// auth
export const missingTargetRef = () => new Refusal(400, 'Missing header: X-Hive-Target-Ref: <organization/project/target or target id>.');
export const missingCredentials = () => new Refusal(401, 'Missing header: Authorization: Bearer <access token>.');
export const targetRefTooLong = (maxBytes: number) => new Refusal(400, `The header X-Hive-Target-Ref is longer than ${maxBytes} bytes.`);
export const credentialsTooLong = (maxBytes: number) => new Refusal(401, `The header Authorization is longer than ${maxBytes} bytes.`);
/** The auth endpoint's verdict, with its message if it has one. */
export const refusedByHive = (status: keyof typeof REFUSED_BY_HIVE, message: string | undefined) =>
  new Refusal(status, message ?? REFUSED_BY_HIVE[status]);
export const authUnavailable = () =>
  new Refusal(503, "The credentials can't be checked: Hive's auth endpoint is not available; retry later.", OUTAGE_S);

// body
export const malformed = (detail: string) => new Refusal(400, `The body is malformed: ${detail}.`);
export const malformedWithoutType = (detail: string) =>
  new Refusal(
    400,
    `The header Content-Type is missing, so the body was read as Protobuf (application/x-protobuf). It is malformed: ${detail}.`,
  );
export const unsupportedContentType = (given: string) =>
  new Refusal(415, `The content type ${JSON.stringify(given)} is not supported. Supported: application/x-protobuf, application/json.`);
export const unsupportedEncoding = (given: string) =>
  new Refusal(415, `The content encoding ${JSON.stringify(given)} is not supported. Supported: identity, gzip, deflate, zstd.`);
export const unsupportedTransferEncoding = (given: string) =>
  new Refusal(400, `The transfer encoding ${JSON.stringify(given)} is not supported. Supported: chunked.`);
export const tooLarge = (limitMb: number) => new Refusal(413, `The body is larger than ${limitMb} MB (MAX_REQUEST_MB).`);
export const bodyTooSlow = (timeoutMs: number) => new Refusal(408, `The body did not arrive within ${timeoutMs} ms (REQUEST_TIMEOUT_MS).`);
export const tooManyTinyChunks = () => new Refusal(400, 'The body has too many chunks of a few bytes each.');
export const tinyChunksBusy = () => new Refusal(503, 'Too many bodies have chunks of a few bytes each; retry later.', SOON_S);
export const senderEnded = () =>
  new Refusal(503, 'The client closed its side of the connection before the credentials were checked; retry later.', SOON_S);
export const bodyAborted = () => new Refusal(400, 'The body ended before it was complete.');

// storing
export const memoryFull = () => new Refusal(503, 'The collector is at its memory limit; retry later.', OUTAGE_S);
export const processMemoryFull = () => new Refusal(503, 'The collector is near the memory limit of its process; retry later.', OUTAGE_S);
export const targetOverShare = () =>
  new Refusal(429, 'The target uses more than its share of the memory (TARGET_MAX_MEMORY_PERCENT); retry later.', OUTAGE_S);
export const targetOverRate = (spansPerSecond: number, retryAfterSeconds: number) =>
  new Refusal(
    429,
    `The target sends more than ${spansPerSecond} spans per second (TARGET_MAX_SPANS_PER_SECOND); retry later.`,
    retryAfterSeconds,
  );
export const storageUnavailable = () => new Refusal(503, 'ClickHouse is not available; retry later.', OUTAGE_S);
export const notStoredInTime = () => new Refusal(503, 'The spans could not be stored in time; retry later.', SOON_S);
export const diskBufferFull = () => new Refusal(503, 'The disk buffer is full; retry later.', OUTAGE_S);
export const diskBufferFailed = () => new Refusal(503, "The disk buffer can't be written to; retry later.", OUTAGE_S);
export const largerThanDiskBuffer = () => new Refusal(413, 'The spans are larger than the disk buffer (DISK_BUFFER_MAX_SIZE_MB).');
export const starting = () => new Refusal(503, 'The collector is starting; retry later.', SOON_S);
export const shuttingDown = () => new Refusal(503, 'The collector is shutting down; retry later.', SOON_S);
export const refusedByClickHouse = () => new Refusal(500, 'ClickHouse rejected the spans of this request.');

const REFUSED_BY_HIVE = {
  400: 'Hive refused the request.',
  401: 'Hive does not know this access token.',
  403: 'The access token may not write traces to this target.',
  404: 'Hive does not know this target.',
} as const;
