/*
 * The tables, as data: spans, one row each; where in time a trace is; the roots of traces, with what Hive shows of them.
 * Names, types and keys are those of Hive's migrations and of the Collector's clickhouseexporter, so that either can be
 * taken over, and their queries work. The types may differ from those of the blocks (transcode/native-block.ts): ClickHouse converts.
 *
 *   otel_traces ──▶ view _trace_id_ts_mv  ──▶ otel_traces_trace_id_ts     (layouts otelcol, hive)
 *              └──▶ view _normalized_mv   ──▶ otel_traces_normalized      (layout hive)
 */

export interface Column {
  readonly name: string;
  readonly type: string;
  readonly codec: string;
}

export interface Table {
  /** What the table's name has behind the name of the table of spans. */
  readonly suffix: string;
  readonly columns: readonly Column[];
  readonly indexes: readonly { readonly name: string; readonly definition: string }[];
  readonly partitionBy: string;
  readonly orderBy: string;
  /** Rows are dropped some days after this time. */
  readonly expiresFrom: string;
  /** The rows of a trace are on one shard, where a repeated insert finds them again. */
  readonly shardBy: string;
  /** Where the rows come from, if a view fills the table. */
  readonly view?: View;
}

export interface View {
  readonly suffix: string;
  /** @param spans the table of spans, quoted */
  readonly select: (spans: string) => string;
}

const ATTRIBUTES = 'Map(LowCardinality(String), String)';
const LABEL = 'LowCardinality(String)';

function column(name: string, type: string, codec = 'ZSTD(1)'): Column {
  return { name, type, codec };
}

function bloomFilter(name: string, expression: string, falsePositives: number): { name: string; definition: string } {
  return { name, definition: `${expression} TYPE bloom_filter(${falsePositives}) GRANULARITY 1` };
}

const DURATION_INDEX = 'TYPE minmax GRANULARITY 1';

export const spans: Table = {
  suffix: '',
  columns: [
    column('Timestamp', 'DateTime64(9)', 'Delta(8), ZSTD(1)'),
    column('TraceId', 'String'),
    column('SpanId', 'String'),
    column('ParentSpanId', 'String'),
    column('TraceState', 'String'),
    column('SpanName', LABEL),
    column('SpanKind', LABEL),
    column('ServiceName', LABEL),
    column('ResourceAttributes', ATTRIBUTES),
    column('ScopeName', 'String'),
    column('ScopeVersion', 'String'),
    column('SpanAttributes', ATTRIBUTES),
    column('Duration', 'UInt64'),
    column('StatusCode', LABEL),
    column('StatusMessage', 'String'),
    column('Events.Timestamp', 'Array(DateTime64(9))'),
    column('Events.Name', `Array(${LABEL})`),
    column('Events.Attributes', `Array(${ATTRIBUTES})`),
    column('Links.TraceId', 'Array(String)'),
    column('Links.SpanId', 'Array(String)'),
    column('Links.TraceState', 'Array(String)'),
    column('Links.Attributes', `Array(${ATTRIBUTES})`),
  ],
  indexes: [
    bloomFilter('idx_trace_id', 'TraceId', 0.001),
    bloomFilter('idx_res_attr_key', 'mapKeys(ResourceAttributes)', 0.01),
    bloomFilter('idx_res_attr_value', 'mapValues(ResourceAttributes)', 0.01),
    bloomFilter('idx_span_attr_key', 'mapKeys(SpanAttributes)', 0.01),
    bloomFilter('idx_span_attr_value', 'mapValues(SpanAttributes)', 0.01),
    { name: 'idx_duration', definition: `Duration ${DURATION_INDEX}` },
  ],
  partitionBy: 'toDate(Timestamp)',
  orderBy: 'ServiceName, SpanName, toDateTime(Timestamp)',
  expiresFrom: 'toDate(Timestamp)',
  shardBy: 'cityHash64(TraceId)',
};

/** First and last time of each trace: a look-up by trace id then reads only the parts of those days. */
const traceTimes: Table = {
  suffix: '_trace_id_ts',
  columns: [column('TraceId', 'String'), column('Start', 'DateTime', 'Delta(4), ZSTD(1)'), column('End', 'DateTime', 'Delta(4), ZSTD(1)')],
  indexes: [bloomFilter('idx_trace_id', 'TraceId', 0.01)],
  partitionBy: 'toDate(Start)',
  orderBy: 'TraceId, Start',
  expiresFrom: 'toDate(Start)',
  shardBy: 'cityHash64(TraceId)',
  view: {
    suffix: '_trace_id_ts_mv',
    select: (from) => `SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM ${from} WHERE TraceId != '' GROUP BY TraceId`,
  },
};

/** Columns of the roots that are an attribute of the span, as it is. */
const ROOT_TEXTS: readonly (readonly [column: string, attribute: string])[] = [
  ['http_status_code', 'http.status_code'],
  ['http_method', 'http.method'],
  ['http_host', 'http.host'],
  ['http_route', 'http.route'],
  ['http_url', 'http.url'],
  ['client_name', 'hive.client.name'],
  ['client_version', 'hive.client.version'],
  ['graphql_operation_name', 'hive.graphql.operation.name'],
  ['graphql_operation_type', 'hive.graphql.operation.type'],
  ['graphql_operation_document', 'hive.graphql.operation.document'],
];
const ROOT_LISTS: readonly (readonly [column: string, attribute: string])[] = [
  ['graphql_error_codes', 'hive.graphql.error.codes'],
  ['subgraph_names', 'hive.subgraph.names'],
];
const ROOTS_WITHOUT_INDEX = new Set(['graphql_operation_document']);

/** The roots of traces, which Hive lists. */
export const roots: Table = {
  suffix: '_normalized',
  columns: [
    column('target_id', LABEL),
    column('trace_id', 'String'),
    column('span_id', 'String'),
    column('timestamp', "DateTime('UTC')", 'DoubleDelta, LZ4'),
    column('duration', 'UInt64', 'T64, ZSTD(1)'),
    ...ROOT_TEXTS.map(([name]) => column(name, name === 'graphql_operation_type' ? LABEL : 'String')),
    column('graphql_error_count', 'UInt32', 'T64, ZSTD(1)'),
    ...ROOT_LISTS.map(([name]) => column(name, `Array(${LABEL})`)),
  ],
  indexes: [
    { name: 'idx_duration', definition: `duration ${DURATION_INDEX}` },
    ...[...ROOT_TEXTS, ...ROOT_LISTS].filter(([name]) => !ROOTS_WITHOUT_INDEX.has(name)).map(([name]) => bloomFilter(`idx_${name}`, name, 0.01)),
  ],
  partitionBy: 'toDate(timestamp)',
  orderBy: 'target_id, timestamp',
  expiresFrom: 'toDateTime(timestamp)',
  shardBy: 'cityHash64(trace_id)',
  view: {
    suffix: '_normalized_mv',
    select: (from) =>
      `SELECT ${[
        "toLowCardinality(SpanAttributes['hive.target_id']) AS target_id",
        'TraceId AS trace_id',
        'SpanId AS span_id',
        "toDateTime(Timestamp, 'UTC') AS timestamp",
        'Duration AS duration',
        ...ROOT_TEXTS.map(([name, attribute]) => `SpanAttributes['${attribute}'] AS ${name}`),
        // Absent or no number: 0, as a view that fails fails the insert.
        "toUInt32OrZero(SpanAttributes['hive.graphql.error.count']) AS graphql_error_count",
        ...ROOT_LISTS.map(([name, attribute]) => `splitByChar(',', SpanAttributes['${attribute}']) AS ${name}`),
      ].join(', ')} FROM ${from} WHERE empty(ParentSpanId)`,
  },
};

export type LayoutName = 'spans' | 'otelcol' | 'hive';
export const layouts: Readonly<Record<LayoutName, readonly Table[]>> = {
  spans: [spans],
  otelcol: [spans, traceTimes],
  hive: [spans, traceTimes, roots],
};
