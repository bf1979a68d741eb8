import { INTERNALS } from '../runtime/internals.ts';
import { memoryDefaults, memoryLimitBytes } from '../runtime/memory-limit.ts';
import {
  flag,
  host,
  httpHeaders,
  identifier,
  integer,
  list,
  oneOf,
  onlyWith,
  optional,
  orElse,
  pemFile,
  plainHttpUrl,
  port,
  ratio,
  secret,
  serverUrls,
  text,
  type Values,
} from './variable.ts';

const BY_MEMORY = memoryDefaults(memoryLimitBytes());

const SELF_TRACING = 'ENABLE_SELF_TRACING';

/** Every setting of the collector. `npm start -- --help` and docs/configuration.md are generated from this. */
export const variables = {
  HOST: text('0.0.0.0', 'Address that all ports listen on.'),
  PORT: port(4318, 'Port for OTLP/HTTP: POST /v1/traces.'),
  GRPC_PORT: optional(port(undefined, 'Port for OTLP/gRPC, usually 4317. gRPC is off unless it is set.')),
  HEALTH_PORT: port(9090, 'Port of the status page, /health, /ready, /metrics and /debug/pprof/.'),
  HEALTHCHECK_PORT: port(13133, 'Port of the liveness probe for Kubernetes: GET /.'),
  ADMIN_ALLOWED_HOSTS: list(
    /^(\*|(\*\.)?[a-z0-9_.-]+)$/i,
    'comma-separated host names (status.example.com, *.example.com), or *',
    [],
    'Further host names under which a browser may open the status page and profiles on HEALTH_PORT, for example that of an Ingress ' +
      '(docs/security.md).',
  ),

  MAX_CONNECTIONS: integer({
    min: 1,
    max: 1_000_000,
    fallback: BY_MEMORY.MAX_CONNECTIONS,
    fallbackRule: '8 for each MB of the memory limit, from 500 to 10000',
    help:
      'Maximum number of open connections, for PORT and GRPC_PORT each. Further connections are closed at once. The health ports have ' +
      'no limit.',
  }),
  HEADERS_TIMEOUT_MS: integer({
    min: 100,
    max: 600_000,
    fallback: 30_000,
    unit: 'ms',
    help: 'A request whose headers take longer gets 408, and its connection is closed.',
  }),
  KEEP_ALIVE_TIMEOUT_MS: integer({
    min: 100,
    max: 3_600_000,
    fallback: 75_000,
    unit: 'ms',
    help: 'Idle connections are closed after this time. Set it longer than the idle timeout of load balancers in front.',
  }),
  MAX_CONNECTION_AGE_MS: integer({
    min: 0,
    max: 86_400_000,
    fallback: 0,
    unit: 'ms',
    help:
      'Maximum age of a connection of a sender; requests in flight are answered. Set it, for example to 300000, if a load balancer ' +
      'distributes connections, not requests. 0: no limit.',
  }),
  GRPC_MAX_CONNECTION_AGE_MS: optional(
    integer({
      min: 0,
      max: 86_400_000,
      unit: 'ms',
      help: 'Old name of MAX_CONNECTION_AGE_MS, still supported. If both are set, they must be equal.',
    }),
  ),
  CORS_ALLOWED_ORIGINS: list(
    /^(\*|null|[a-z][a-z0-9+.-]*:\/\/[^\s/]+)$/i,
    'comma-separated origins (https://app.example.com, https://*.example.com), or *',
    [],
    'Origins whose web pages may send traces from a browser. Requests of other pages get 403.',
  ),
  CORS_ALLOWED_HEADERS: list(
    /^[!#$%&'*+.^_`|~0-9a-z-]+$/i,
    'comma-separated header names, or *',
    ['Authorization', 'Content-Type', 'Content-Encoding', 'X-Hive-Target-Ref'],
    'Headers that these pages may send.',
  ),
  CORS_MAX_AGE_S: integer({
    min: 0,
    max: 86_400,
    fallback: 7_200,
    unit: 's',
    help: 'How long browsers cache CORS_ALLOWED_ORIGINS and CORS_ALLOWED_HEADERS.',
  }),

  HIVE_OTEL_AUTH_ENDPOINT: optional(
    plainHttpUrl(
      "Hive's auth endpoint, which checks Authorization and X-Hive-Target-Ref of each request. Required unless DISABLE_AUTH=true.",
    ),
  ),
  DISABLE_AUTH: flag(false, 'Accept all requests, and use X-Hive-Target-Ref itself as the target id. For local use only.'),
  AUTH_TIMEOUT_MS: integer({
    min: 50,
    max: 60_000,
    fallback: 2_000,
    unit: 'ms',
    help: 'Timeout of one request to the auth endpoint. It is tried up to three times.',
  }),
  AUTH_CACHE_TTL_MS: integer({
    min: 0,
    max: 3_600_000,
    fallback: 30_000,
    unit: 'ms',
    help: 'How long an accepted token is cached before it is checked again. 0: no cache.',
  }),
  AUTH_CACHE_REFUSED_TTL_MS: integer({
    min: 0,
    max: 3_600_000,
    fallback: 5_000,
    unit: 'ms',
    help: 'How long a refused token is cached: it is refused without another check.',
  }),
  AUTH_CACHE_STALE_MS: integer({
    min: 0,
    max: 86_400_000,
    fallback: 600_000,
    unit: 'ms',
    help: 'While the auth endpoint is down: how long after its last check a known token is still accepted.',
  }),
  AUTH_CACHE_MAX_ENTRIES: integer({
    min: 1,
    max: 1_000_000,
    fallback: 10_000,
    help: 'Maximum number of cached tokens. The least recently used one is dropped first.',
  }),

  CLICKHOUSE_URL: orElse(
    'CLICKHOUSE_HOST',
    secret(
      serverUrls(
        'URL of ClickHouse over HTTP, for example http://clickhouse:8123. With several, inserts go to the first one that is ' +
          'reachable. Without it, `npm run local` starts its own ClickHouse.',
      ),
    ),
  ),
  CLICKHOUSE_PROTOCOL: oneOf(['http', 'https'], 'http', 'With CLICKHOUSE_HOST: its protocol.'),
  CLICKHOUSE_HOST: optional(host('One server, instead of CLICKHOUSE_URL. If both are set, they must name the same server.')),
  CLICKHOUSE_PORT: optional(port(undefined, 'With CLICKHOUSE_HOST: its HTTP port.', '8123, or 8443 with https')),
  CLICKHOUSE_USERNAME: secret(text('default', 'User that writes the spans.')),
  CLICKHOUSE_PASSWORD: secret(
    text('', 'Password of that user. If it is in a file, the file is read again when ClickHouse rejects the password.'),
  ),
  CLICKHOUSE_TLS_CA_FILE: optional(
    pemFile("CA certificates (PEM) used to verify ClickHouse's TLS certificate, instead of the default ones."),
  ),
  CLICKHOUSE_TLS_CERT_FILE: optional(
    pemFile('Client certificate (PEM) for TLS to ClickHouse. Without a password, it also authenticates the user.'),
  ),
  CLICKHOUSE_TLS_KEY_FILE: optional(pemFile('Private key (PEM) of the client certificate.')),
  CLICKHOUSE_DATABASE: identifier('default', 'Database of CLICKHOUSE_TABLE.'),
  CLICKHOUSE_TABLE: identifier('otel_traces', 'Table that the spans are written to.'),
  CLICKHOUSE_CREATE_SCHEMA: flag(false, 'Create the database and the table if they are missing.'),
  CLICKHOUSE_ASYNC_INSERT: flag(false, "Use ClickHouse's async inserts. The collector's inserts are large already: leave it off."),
  CLICKHOUSE_WAIT_FOR_ASYNC_INSERT: flag(
    true,
    'With async inserts: wait until the rows are written. If false, 200 no longer means stored.',
  ),
  CLICKHOUSE_SKIP_INDEXES_ON_INSERT: flag(
    false,
    'Build skip indexes on insert instead of at the first merge. ClickHouse then needs about 40 % more CPU.',
  ),
  CLICKHOUSE_TIMEOUT_MS: integer({
    min: 1_000,
    max: 600_000,
    fallback: 60_000,
    unit: 'ms',
    help: 'Timeout of one insert. It is then retried.',
  }),

  ROW_DIALECT: oneOf(
    ['hive', 'otelcol'],
    'hive',
    "Format of the rows: that of Hive's Rust collector (hive), or that of the OpenTelemetry Collector's clickhouseexporter (otelcol).",
  ),
  BATCH_MAX_SPANS: integer({
    min: 1,
    max: 10_000_000,
    fallback: 100_000,
    help: 'An insert is sent at once when this many spans wait.',
  }),
  BATCH_MAX_MB: integer({
    min: 1,
    max: 1_024,
    fallback: 64,
    unit: 'MB',
    help: 'An insert is sent at once when this much compressed data waits.',
  }),
  BATCH_TIMEOUT_MS: integer({
    min: 0,
    max: 60_000,
    fallback: 300,
    fallbackRule: '1000 with the disk buffer, 300 without',
    unit: 'ms',
    help:
      'How long a finished block may wait to be combined with others into one insert. With the disk buffer it always waits this long, ' +
      'unless the insert is full. Without it, senders wait for the insert: it is sent as soon as no more requests are expected ' +
      '(docs/architecture.md), and after this time even if another insert is in flight.',
  }),
  BATCH_WORKERS: integer({
    min: 1,
    max: 64,
    fallback: 4,
    help: "Maximum number of inserts in flight. A second one starts only if the first can't keep up.",
  }),
  SEAL_INTERVAL_MS: integer({
    min: 0,
    max: 1_000,
    fallback: 100,
    fallbackRule: '10 with the disk buffer, 100 without',
    unit: 'ms',
    help:
      'How often a block is closed and compressed under load; half as often when blocks are small. After a pause, a block is closed at ' +
      'once; without the disk buffer, also when an insert starts.',
  }),
  ACK_MODE: oneOf(
    ['durable', 'received'],
    'durable',
    'What 200 means: the spans are stored (durable), or only parsed and in memory (received).',
  ),
  ACK_TIMEOUT_MS: integer({
    min: 100,
    max: 600_000,
    fallback: 7_000,
    unit: 'ms',
    help: 'A request whose spans are not stored within this time gets 503. Set it below the timeout of exporters (10 s by default).',
  }),

  JOIN_REPEATED_REQUESTS: flag(
    true,
    'Without the disk buffer: a request that repeats an earlier one (the same bytes) while its insert is in flight waits for that ' +
      'insert and is not stored again.',
  ),

  MAX_REQUEST_MB: integer({
    min: 1,
    max: 1_024,
    fallback: BY_MEMORY.MAX_REQUEST_MB,
    fallbackRule: '64 with a memory limit of 2 GB or more; 32 with 1 GB, 14 with 512 MB, 5 with 256 MB',
    unit: 'MB',
    help: 'Maximum size of a request body, before and after decompression. Larger ones get 413.',
  }),
  SPAN_MAX_SIZE_KB: integer({
    min: 0,
    max: 1_048_576,
    fallback: 0,
    unit: 'KB',
    help: 'Maximum size of a span in its request. Larger spans are rejected, and the sender is told. 0: no limit.',
  }),
  SPAN_MAX_AGE_DAYS: integer({
    min: 0,
    max: 36_500,
    fallback: 400,
    unit: 'days',
    help:
      'Spans that started earlier than this, or more than a day in the future, or have no time are rejected, and the sender is told. A ' +
      'shorter TTL of the table applies as well. 0: no limit.',
  }),
  REQUEST_TIMEOUT_MS: integer({
    min: 100,
    max: 600_000,
    fallback: 30_000,
    unit: 'ms',
    help: 'A request whose body does not arrive within this time gets 408.',
  }),
  MEM_BUFFER_SIZE_MB: integer({
    min: 8,
    max: 1_048_576,
    fallback: BY_MEMORY.MEM_BUFFER_SIZE_MB,
    fallbackRule: 'a quarter of the memory limit, from 16 to 4096',
    unit: 'MB',
    help: 'Memory limit for request bodies, blocks and inserts together. From 90 % of it on, requests get 503 before they are read.',
  }),
  TARGET_MAX_MEMORY_PERCENT: integer({
    min: 1,
    max: 100,
    fallback: 80,
    unit: '%',
    help:
      'Maximum share of MEM_BUFFER_SIZE_MB for one target; less while other targets send, too. Over it, its requests get 429. 100: no ' +
      'limit.',
  }),
  TARGET_MAX_SPANS_PER_SECOND: integer({
    min: 0,
    max: 1_000_000_000,
    fallback: 0,
    help: 'Maximum rate of spans per target, with bursts of up to five seconds at that rate. Over it, its requests get 429. 0: no limit.',
  }),
  TRANSCODE_INLINE_KB: integer({
    min: 0,
    max: 1_048_576,
    fallback: 512,
    unit: 'KB',
    help: 'Bodies over this size are parsed in a worker thread, so that they do not delay other requests.',
  }),
  TRANSCODER_THREADS: integer({
    min: 0,
    max: 64,
    fallback: BY_MEMORY.TRANSCODER_THREADS,
    fallbackRule: 'processors − 1, from 1 to 4; at most one for each 512 MB of the memory limit',
    help: 'Maximum number of worker threads for large bodies. 0: everything is parsed on the main thread.',
  }),

  INGEST_THREADS: integer({
    min: 1,
    max: 64,
    fallback: BY_MEMORY.INGEST_THREADS,
    fallbackRule:
      '1 with fewer than four processors or without Linux, otherwise processors − 1, up to 8; at most one for each 512 MB of the ' +
      'memory limit',
    help:
      'Maximum number of threads that read and parse requests, each with its own share of the connections. At 1, and while one is ' +
      'enough, it is the main thread; more only on Linux. The queue, the disk buffer, inserts and all limits stay those of one ' +
      'process.',
  }),
  INGEST_THREADS_MIN: integer({
    min: 1,
    max: 64,
    fallback: 1,
    help:
      'Number of these threads that always serve. When all have been busy for 3 s, another one does; when fewer have been enough for ' +
      '10 s, the last ones go on standby. At low load, few threads take less CPU and memory, and less of ClickHouse.',
  }),

  ENABLE_DISK_BUFFER: flag(
    false,
    'Keep spans in a file on disk until ClickHouse has stored them. Requests are acknowledged as soon as they are in the file.',
  ),
  DISK_BUFFER_DIR: text('disk-buffer', 'Directory of the disk buffer. Each collector needs its own.'),
  DISK_BUFFER_MAX_SIZE_MB: integer({
    min: 1,
    max: 1_048_576,
    fallback: 1_024,
    unit: 'MB',
    help: 'Size of the disk buffer, allocated at the first start. An existing file keeps its size.',
  }),
  DISK_BUFFER_SYNC: oneOf(
    ['none', 'interval', 'always'],
    'interval',
    'When the disk buffer is synced to the disk. A power failure loses nothing (always), up to a second (interval), or what the ' +
      'kernel has not written yet (none); a crash of the collector loses nothing in any mode.',
  ),

  DISK_BUFFER_ON_ERROR: oneOf(
    ['memory', 'refuse'],
    'memory',
    'What to do while the disk of the buffer fails: acknowledge when ClickHouse has stored the spans, as without a disk buffer ' +
      '(memory), or answer 503 (refuse).',
  ),
  LARGE_REQUEST_KB: integer({
    min: 1,
    max: 1_048_576,
    fallback: 1_024,
    unit: 'KB',
    help: 'A body over this size gets its own block.',
  }),

  DEAD_LETTERS_DIR: text(
    '',
    'Directory for acknowledged spans that ClickHouse permanently rejects (docs/storage.md). Empty: dead-letters in DISK_BUFFER_DIR.',
  ),
  DEAD_LETTERS_MAX_MB: integer({
    min: 1,
    max: 1_048_576,
    fallback: 256,
    unit: 'MB',
    help: 'Maximum size of DEAD_LETTERS_DIR. Beyond it, rejected spans stay in the queue: nothing is deleted.',
  }),

  SHUTDOWN_TIMEOUT_MS: integer({
    min: 100,
    max: 600_000,
    fallback: 30_000,
    unit: 'ms',
    help: 'Timeout of a shutdown after SIGTERM. Requests whose spans are not stored by then get 503.',
  }),
  ENABLE_PROFILING: flag(
    true,
    'Serve profiles of the running collector at /debug/pprof/ on HEALTH_PORT. They cost nothing until one is requested.',
  ),
  METRICS_TOP_TARGETS: integer({
    min: 0,
    max: 100,
    fallback: 0,
    help: 'Number of targets that /metrics shows individually: those that have sent the most spans. 0: none.',
  }),

  ENABLE_SELF_TRACING: flag(
    false,
    'Send traces of the collector itself to OTEL_EXPORTER_OTLP_ENDPOINT. While this is false, no OTEL_ variable is read.',
  ),
  OTEL_SDK_DISABLED: onlyWith(SELF_TRACING, flag(false, 'true disables self-tracing even if ENABLE_SELF_TRACING is true.')),
  OTEL_EXPORTER_OTLP_ENDPOINT: onlyWith(
    SELF_TRACING,
    optional(plainHttpUrl('Base URL that the traces of the collector itself are sent to; /v1/traces is appended.')),
  ),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: onlyWith(
    SELF_TRACING,
    optional(plainHttpUrl('The full URL for these traces. It takes precedence over OTEL_EXPORTER_OTLP_ENDPOINT.')),
  ),
  OTEL_EXPORTER_OTLP_PROTOCOL: onlyWith(SELF_TRACING, oneOf(['http/protobuf'], 'http/protobuf', 'Protocol for these traces.')),
  OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: onlyWith(
    SELF_TRACING,
    oneOf(['http/protobuf'], 'http/protobuf', 'Same as OTEL_EXPORTER_OTLP_PROTOCOL.'),
  ),
  OTEL_EXPORTER_OTLP_HEADERS: onlyWith(
    SELF_TRACING,
    secret(
      optional(
        httpHeaders('Headers sent with these traces. For another Hive collector: Authorization=Bearer%20TOKEN,X-Hive-Target-Ref=a/b/c.'),
      ),
    ),
  ),
  OTEL_EXPORTER_OTLP_TRACES_HEADERS: onlyWith(
    SELF_TRACING,
    secret(optional(httpHeaders('Same as OTEL_EXPORTER_OTLP_HEADERS. If a header is in both, this value is used.'))),
  ),
  OTEL_TRACES_SAMPLER: onlyWith(
    SELF_TRACING,
    oneOf(
      ['always_on', 'always_off', 'traceidratio', 'parentbased_always_on', 'parentbased_always_off', 'parentbased_traceidratio'],
      'traceidratio',
      "Which requests are traced. The sender's sampling decision is ignored.",
    ),
  ),
  OTEL_TRACES_SAMPLER_ARG: onlyWith(SELF_TRACING, ratio(0.01, 'With traceidratio: the fraction of requests that is traced.')),
  OTEL_SERVICE_NAME: onlyWith(SELF_TRACING, text('hive-otel-collector', 'service.name of the collector itself.')),

  NODE_INTERNALS_OFF: list(
    new RegExp(`^(all|${INTERNALS.join('|')})$`),
    `all, or comma-separated names (${INTERNALS.join(', ')})`,
    [],
    'Turns off optimizations that rely on internals of Node, V8 or libc, to find out whether one of them causes a problem ' +
      '(docs/performance.md).',
  ),
  LOG_LEVEL: oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], 'info', 'Lowest level that is logged.'),
} as const;

/** The parsed configuration: a value for each variable. */
export type Config = Values<typeof variables> & {
  /** The paths of the files that values were read from, by variable: they can be read again. */
  readonly files: Readonly<Partial<Record<VariableName, string>>>;
};
export type VariableName = keyof typeof variables;
