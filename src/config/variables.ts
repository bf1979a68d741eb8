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

/** Every setting of the collector. `npm start -- --help` and docs/configuration.md are printed from this. */
export const variables = {
  HOST: text('0.0.0.0', 'Address all ports listen on.'),
  PORT: port(4318, 'OTLP/HTTP: POST /v1/traces.'),
  GRPC_PORT: optional(port(undefined, 'OTLP/gRPC, usually 4317. Off unless it is set.')),
  HEALTH_PORT: port(9090, 'The status page, /health, /ready, /metrics and /debug/pprof/.'),
  HEALTHCHECK_PORT: port(13133, 'Liveness for Kubernetes: GET /.'),
  ADMIN_ALLOWED_HOSTS: list(
    /^(\*|(\*\.)?[a-z0-9_.-]+)$/i,
    'names of hosts between commas (status.example.com, *.example.com), or *',
    [],
    'Names under which a browser may open the status page and profiles on HEALTH_PORT, as those of an Ingress. Always allowed are addresses, names without a dot, the name of the machine, and names in .localhost, .local, .internal, .svc and .home.arpa. /health, /ready and /metrics answer under any name.',
  ),

  MAX_CONNECTIONS: integer({
    min: 1,
    max: 1_000_000,
    fallback: BY_MEMORY.MAX_CONNECTIONS,
    fallbackRule: '8 for each MB of the memory limit, 500 to 10000',
    help: 'Connections to PORT at the same time, and as many to GRPC_PORT; further ones are closed as they come. The health ports have no limit.',
  }),
  HEADERS_TIMEOUT_MS: integer({
    min: 100,
    max: 600_000,
    fallback: 30_000,
    unit: 'ms',
    help: 'A connection that has not sent the headers of its first request by then is answered 408 and closed; so are the next ones, once they have begun.',
  }),
  KEEP_ALIVE_TIMEOUT_MS: integer({
    min: 100,
    max: 3_600_000,
    fallback: 75_000,
    unit: 'ms',
    help: 'Idle connections are closed after this. Longer than the load balancers in front keep theirs, so that none is closed under a request.',
  }),
  MAX_CONNECTION_AGE_MS: integer({
    min: 0,
    max: 86_400_000,
    fallback: 0,
    unit: 'ms',
    help: 'A connection to PORT or GRPC_PORT is asked to end at about this age: by Connection: close with its next answer, or by GOAWAY. What is under way is answered first. Set it, say to 300000, where a load balancer spreads connections, not requests: senders reconnect, and new collectors get their share. 0: never.',
  }),
  GRPC_MAX_CONNECTION_AGE_MS: optional(
    integer({
      min: 0,
      max: 86_400_000,
      unit: 'ms',
      help: 'The earlier name of MAX_CONNECTION_AGE_MS, still read. If both are set, they must be equal.',
    }),
  ),
  CORS_ALLOWED_ORIGINS: list(
    /^(\*|null|[a-z][a-z0-9+.-]*:\/\/[^\s/]+)$/i,
    'origins between commas (https://app.example.com, https://*.example.com), or *',
    [],
    'Pages of these origins may send traces from a browser; what another page sends is answered 403.',
  ),
  CORS_ALLOWED_HEADERS: list(
    /^[!#$%&'*+.^_`|~0-9a-z-]+$/i,
    'names of headers between commas, or *',
    ['Authorization', 'Content-Type', 'Content-Encoding', 'X-Hive-Target-Ref'],
    'Headers that such pages may send.',
  ),
  CORS_MAX_AGE_S: integer({ min: 0, max: 86_400, fallback: 7_200, unit: 's', help: 'How long browsers remember both.' }),

  HIVE_OTEL_AUTH_ENDPOINT: optional(
    plainHttpUrl(
      "Hive's auth endpoint. Each request's Authorization and X-Hive-Target-Ref are checked there. Required unless DISABLE_AUTH=true.",
    ),
  ),
  DISABLE_AUTH: flag(false, 'Accept everyone, and take X-Hive-Target-Ref itself as the target id. For local use only.'),
  AUTH_TIMEOUT_MS: integer({
    min: 50,
    max: 60_000,
    fallback: 2_000,
    unit: 'ms',
    help: 'Longest wait for one answer of the auth endpoint; it is asked up to three times.',
  }),
  AUTH_CACHE_TTL_MS: integer({
    min: 0,
    max: 3_600_000,
    fallback: 30_000,
    unit: 'ms',
    help: 'How long an accepted token is trusted before it is checked again. 0 remembers nothing.',
  }),
  AUTH_CACHE_REFUSED_TTL_MS: integer({
    min: 0,
    max: 3_600_000,
    fallback: 5_000,
    unit: 'ms',
    help: 'How long a refused token is refused without asking again.',
  }),
  AUTH_CACHE_STALE_MS: integer({
    min: 0,
    max: 86_400_000,
    fallback: 600_000,
    unit: 'ms',
    help: 'How long after its last check a known token goes on being accepted while the auth endpoint is down.',
  }),
  AUTH_CACHE_MAX_ENTRIES: integer({
    min: 1,
    max: 1_000_000,
    fallback: 10_000,
    help: 'Tokens remembered; the least recently used one makes room.',
  }),

  CLICKHOUSE_URL: orElse(
    'CLICKHOUSE_HOST',
    secret(
      serverUrls(
        'ClickHouse over HTTP, for example http://clickhouse:8123. With several, inserts go to the first one that is reachable. `npm run local` brings a ClickHouse of its own instead.',
      ),
    ),
  ),
  CLICKHOUSE_PROTOCOL: oneOf(['http', 'https'], 'http', 'With CLICKHOUSE_HOST: how it is spoken to.'),
  CLICKHOUSE_HOST: optional(host('One server, in place of CLICKHOUSE_URL. If both are set, they have to name the same server.')),
  CLICKHOUSE_PORT: optional(port(undefined, 'With CLICKHOUSE_HOST: its port for HTTP.', '8123, or 8443 with https')),
  CLICKHOUSE_USERNAME: secret(text('default', 'User the spans are written as.')),
  CLICKHOUSE_PASSWORD: secret(text('', 'Password of that user. A file with it is read again when ClickHouse refuses it.')),
  CLICKHOUSE_TLS_CA_FILE: optional(
    pemFile('Certificates (PEM) that an https:// ClickHouse is trusted by, in place of the well-known ones.'),
  ),
  CLICKHOUSE_TLS_CERT_FILE: optional(
    pemFile('Certificate (PEM) shown to an https:// ClickHouse. Without a password, it is also what the user is known by.'),
  ),
  CLICKHOUSE_TLS_KEY_FILE: optional(pemFile('Private key (PEM) of that certificate.')),
  CLICKHOUSE_DATABASE: identifier('default', 'Database of the table.'),
  CLICKHOUSE_TABLE: identifier('otel_traces', 'Table the spans are written to.'),
  CLICKHOUSE_CREATE_SCHEMA: flag(false, 'Create database and table when they are missing.'),
  CLICKHOUSE_ASYNC_INSERT: flag(false, "Let ClickHouse gather inserts. The collector's own are large already: leave it off."),
  CLICKHOUSE_WAIT_FOR_ASYNC_INSERT: flag(
    true,
    'With async inserts: wait until the rows are written. Off means that 200 no longer means stored.',
  ),
  CLICKHOUSE_SKIP_INDEXES_ON_INSERT: flag(
    false,
    'Build skip indexes at insert instead of at the first merge. Costs ClickHouse about 40 % more CPU.',
  ),
  CLICKHOUSE_TIMEOUT_MS: integer({
    min: 1_000,
    max: 600_000,
    fallback: 60_000,
    unit: 'ms',
    help: 'Longest wait for one insert before it is sent again.',
  }),

  ROW_DIALECT: oneOf(
    ['hive', 'otelcol'],
    'hive',
    "How values are written: as Hive's Rust collector does, or as the Collector's clickhouseexporter does.",
  ),
  BATCH_MAX_SPANS: integer({
    min: 1,
    max: 10_000_000,
    fallback: 100_000,
    help: 'Spans at which an insert is sent without waiting longer.',
  }),
  BATCH_MAX_MB: integer({
    min: 1,
    max: 1_024,
    fallback: 64,
    unit: 'MB',
    help: 'Compressed size at which an insert is sent without waiting longer.',
  }),
  BATCH_TIMEOUT_MS: integer({
    min: 0,
    max: 60_000,
    fallback: 300,
    fallbackRule: '1000 with the disk buffer, 300 without',
    unit: 'ms',
    help: 'Longest wait of spans for others to be inserted with them. With the disk buffer they always wait so long, unless the insert is full. Without it, senders wait for the insert: it is sent as soon as no others are expected (docs/architecture.md), and after this time even if another insert is under way.',
  }),
  BATCH_WORKERS: integer({
    min: 1,
    max: 64,
    fallback: 4,
    help: 'Most inserts at the same time. A second one starts only when the first cannot keep up.',
  }),
  SEAL_INTERVAL_MS: integer({
    min: 0,
    max: 1_000,
    fallback: 100,
    fallbackRule: '10 with the disk buffer, 100 without',
    unit: 'ms',
    help: 'How often a block is closed and compressed under load, half as often while it is short; after a pause, at once. Without the disk buffer also when an insert starts.',
  }),
  ACK_MODE: oneOf(
    ['durable', 'received'],
    'durable',
    'What 200 means: the spans are stored (durable), or they are parsed and in memory (received).',
  ),
  ACK_TIMEOUT_MS: integer({
    min: 100,
    max: 600_000,
    fallback: 7_000,
    unit: 'ms',
    help: 'A request whose spans are not stored by then is answered 503. Exporters wait 10 s by default: less, so that they get the answer and have time for a retry.',
  }),

  JOIN_REPEATED_REQUESTS: flag(
    true,
    'Without the disk buffer: a request that repeats an earlier one, byte for byte, while the insert of that is still under way, waits for it and is not stored a second time. Hashing bodies takes up to 0.3 % of a processor, more while ClickHouse is slow.',
  ),

  MAX_REQUEST_MB: integer({
    min: 1,
    max: 1_024,
    fallback: BY_MEMORY.MAX_REQUEST_MB,
    fallbackRule: '64 from a memory limit of 2 GB on; 32 at 1 GB, 14 at 512 MB, 5 at 256 MB',
    unit: 'MB',
    help: 'Largest request body, before and after inflating. Larger ones are answered 413.',
  }),
  SPAN_MAX_SIZE_KB: integer({
    min: 0,
    max: 1_048_576,
    fallback: 0,
    unit: 'KB',
    help: 'Spans that take more in their request are left out; the others are stored, and the sender is told. 0 takes all.',
  }),
  SPAN_MAX_AGE_DAYS: integer({
    min: 0,
    max: 36_500,
    fallback: 400,
    unit: 'days',
    help: 'Spans that started earlier, or more than a day in the future, are left out, and the sender is told: each day is a partition of its own in ClickHouse. So are spans without any time. 0 takes any time, and none. A shorter TTL of the table applies as well.',
  }),
  REQUEST_TIMEOUT_MS: integer({
    min: 100,
    max: 600_000,
    fallback: 30_000,
    unit: 'ms',
    help: 'A request body that has not arrived by then is answered 408.',
  }),
  MEM_BUFFER_SIZE_MB: integer({
    min: 8,
    max: 1_048_576,
    fallback: BY_MEMORY.MEM_BUFFER_SIZE_MB,
    fallbackRule: 'a quarter of the memory limit, 16 to 4096',
    unit: 'MB',
    help: 'Bodies, blocks and inserts in memory, together. Near it, requests are answered 503 before they are read.',
  }),
  TARGET_MAX_MEMORY_PERCENT: integer({
    min: 1,
    max: 100,
    fallback: 80,
    unit: '%',
    help: 'Most of that memory one target may hold; less while others need room, too. Over it, its requests are answered 429. 100 sets no limit.',
  }),
  TARGET_MAX_SPANS_PER_SECOND: integer({
    min: 0,
    max: 1_000_000_000,
    fallback: 0,
    help: "Spans a second that one target may send, with bursts of five seconds' worth. Over it, its requests are answered 429. 0 sets no limit.",
  }),
  TRANSCODE_INLINE_KB: integer({
    min: 0,
    max: 1_048_576,
    fallback: 512,
    unit: 'KB',
    help: 'Bodies over this size are parsed by a worker thread, so that they hold up nobody else.',
  }),
  TRANSCODER_THREADS: integer({
    min: 0,
    max: 64,
    fallback: BY_MEMORY.TRANSCODER_THREADS,
    fallbackRule: 'processors − 1, 1 to 4; at most one for each 512 MB of the memory limit',
    help: 'Worker threads for large bodies. 0 parses everything on the main thread.',
  }),

  ENABLE_DISK_BUFFER: flag(
    false,
    'Keep acknowledged spans in a file until ClickHouse has them: a request is acknowledged at once, and survives crashes and outages.',
  ),
  DISK_BUFFER_DIR: text('disk-buffer', 'Directory of that file. Each collector needs one of its own.'),
  DISK_BUFFER_MAX_SIZE_MB: integer({
    min: 1,
    max: 1_048_576,
    fallback: 1_024,
    unit: 'MB',
    help: 'Size of that file, allocated at the first start. A file that is there keeps its size.',
  }),
  DISK_BUFFER_SYNC: oneOf(
    ['none', 'interval', 'always'],
    'interval',
    'When the file is written to the disk. All survive a crash of the collector; interval loses up to a second when the machine loses power, always nothing, none leaves it to the kernel.',
  ),

  DISK_BUFFER_ON_ERROR: oneOf(
    ['memory', 'refuse'],
    'memory',
    'While the disk of that file fails: acknowledge when ClickHouse has the spans, as without a disk buffer (memory), or answer 503 (refuse).',
  ),
  LARGE_REQUEST_KB: integer({
    min: 1,
    max: 1_048_576,
    fallback: 1_024,
    unit: 'KB',
    help: 'A body over this size becomes a block of its own, shared with no other request.',
  }),

  DEAD_LETTERS_DIR: text(
    '',
    'Directory for acknowledged blocks that ClickHouse refuses for good; see docs/storage.md. Empty: dead-letters in DISK_BUFFER_DIR.',
  ),
  DEAD_LETTERS_MAX_MB: integer({
    min: 1,
    max: 1_048_576,
    fallback: 256,
    unit: 'MB',
    help: 'Most that is kept there. Beyond it, refused blocks stay in the queue: nothing is deleted.',
  }),

  SHUTDOWN_TIMEOUT_MS: integer({
    min: 100,
    max: 600_000,
    fallback: 30_000,
    unit: 'ms',
    help: 'After SIGTERM, spans that are not stored by then are answered 503.',
  }),
  ENABLE_PROFILING: flag(
    true,
    'Answer /debug/pprof/ on HEALTH_PORT: profiles of a running collector. They cost nothing until one is asked for.',
  ),
  METRICS_TOP_TARGETS: integer({
    min: 0,
    max: 100,
    fallback: 0,
    help: 'Targets whose spans /metrics shows one by one: those that have sent the most. 0 shows none.',
  }),

  ENABLE_SELF_TRACING: flag(
    false,
    'Send traces of the collector itself to OTEL_EXPORTER_OTLP_ENDPOINT. While this is off, no OTEL_ variable is read: they are often set for all programs of a cluster, and the endpoint may be this very collector.',
  ),
  OTEL_SDK_DISABLED: onlyWith(SELF_TRACING, flag(false, 'Do not, all the same.')),
  OTEL_EXPORTER_OTLP_ENDPOINT: onlyWith(
    SELF_TRACING,
    optional(plainHttpUrl('Where the traces of the collector itself are sent, to /v1/traces below it.')),
  ),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: onlyWith(SELF_TRACING, optional(plainHttpUrl('The same, with the whole path. It comes first.'))),
  OTEL_EXPORTER_OTLP_PROTOCOL: onlyWith(SELF_TRACING, oneOf(['http/protobuf'], 'http/protobuf', 'How they are sent.')),
  OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: onlyWith(SELF_TRACING, oneOf(['http/protobuf'], 'http/protobuf', 'The same.')),
  OTEL_EXPORTER_OTLP_HEADERS: onlyWith(
    SELF_TRACING,
    secret(
      optional(
        httpHeaders('Headers sent with them; to another collector of this kind: Authorization=Bearer%20TOKEN,X-Hive-Target-Ref=a/b/c.'),
      ),
    ),
  ),
  OTEL_EXPORTER_OTLP_TRACES_HEADERS: onlyWith(
    SELF_TRACING,
    secret(optional(httpHeaders('The same. Of a header in both, this one is sent.'))),
  ),
  OTEL_TRACES_SAMPLER: onlyWith(
    SELF_TRACING,
    oneOf(
      ['always_on', 'always_off', 'traceidratio', 'parentbased_always_on', 'parentbased_always_off', 'parentbased_traceidratio'],
      'traceidratio',
      'Which requests are traced. A sender has no say in it: parentbased_ makes no difference.',
    ),
  ),
  OTEL_TRACES_SAMPLER_ARG: onlyWith(SELF_TRACING, ratio(0.01, 'With traceidratio: the part of the requests that is traced.')),
  OTEL_SERVICE_NAME: onlyWith(SELF_TRACING, text('hive-otel-collector', 'service.name of the collector itself.')),

  NODE_INTERNALS_OFF: list(
    new RegExp(`^(all|${INTERNALS.join('|')})$`),
    `all, or names between commas (${INTERNALS.join(', ')})`,
    [],
    'Optimizations that rely on internals of Node, V8 or libc, to be replaced by public API: slower, with the same results. For finding out whether one of them is the cause of a problem.',
  ),
  LOG_LEVEL: oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], 'info', 'Least severe level that is logged.'),
} as const;

export type Config = Values<typeof variables> & {
  /** Where values were read from a file, its path: it can be read again. */
  readonly files: Readonly<Partial<Record<VariableName, string>>>;
};
export type VariableName = keyof typeof variables;
