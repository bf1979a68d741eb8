import { requestsOfVersion2 } from './earlier-views.ts';

/*
 * The tables, as data: spans, one row each; the first and last time of each trace; and GraphQL requests, as Hive lists them. Names,
 * types and keys are those of Hive's migrations (layout hive) and of the OpenTelemetry Collector's clickhouseexporter (layout otelcol),
 * so that their queries work. The types may differ from those of the blocks (transcode/columns/native-block.ts): ClickHouse converts.
 *
 *   otel_traces ──▶ view _trace_id_ts_mv  ──▶ otel_traces_trace_id_ts     (layouts otelcol, hive)
 *              └──▶ view _normalized_mv   ──▶ otel_traces_normalized      (layout hive)
 */

/** A column, with its type and codec in ClickHouse's syntax. */
export interface Column {
  readonly name: string;
  readonly type: string;
  readonly codec: string;
}

/** A table that stores rows. Its expressions are in ClickHouse's syntax. */
export interface Table {
  /** The table's name is that of the spans table and this suffix. */
  readonly suffix: string;
  readonly columns: readonly Column[];
  readonly indexes: readonly { readonly name: string; readonly definition: string }[];
  readonly partitionBy: string;
  readonly orderBy: string;
  /** The TTL counts from this expression. */
  readonly expiresFrom: string;
  /** The sharding key. It puts all rows of a trace on the same shard, also when an insert is retried. */
  readonly shardBy: string;
  /** The materialized view that fills the table, if any. */
  readonly view?: View;
}

/** A materialized view over the spans table. */
export interface View {
  readonly suffix: string;
  /** The view's query. @param spans the spans table, quoted */
  readonly select: (spans: string) => string;
  /** The queries of earlier versions of the schema that no other program uses. `apply` replaces these queries and no others. */
  readonly earlier?: readonly View['select'][];
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

/** The spans table. @param time type of times @param spanName type of SpanName: in these types the layouts differ */
function spansTable(time: string, spanName: string): Table {
  return {
    suffix: '',
    columns: [
      column('Timestamp', time, 'Delta(8), ZSTD(1)'),
      column('TraceId', 'String'),
      column('SpanId', 'String'),
      column('ParentSpanId', 'String'),
      column('TraceState', 'String'),
      column('SpanName', spanName),
      column('SpanKind', LABEL),
      column('ServiceName', LABEL),
      column('ResourceAttributes', ATTRIBUTES),
      column('ScopeName', 'String'),
      column('ScopeVersion', 'String'),
      column('SpanAttributes', ATTRIBUTES),
      column('Duration', 'UInt64'),
      column('StatusCode', LABEL),
      column('StatusMessage', 'String'),
      column('Events.Timestamp', `Array(${time})`),
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
}

/** ClickHouse shows times without a zone in the server's time zone. Hive reads times as UTC, so its columns name that zone. */
const UTC_TIME = "DateTime64(9, 'UTC')";

/** The table of CLICKHOUSE_CREATE_SCHEMA: Hive's, but SpanName is LowCardinality, as in our blocks, which changes no query. */
export const spans = spansTable(UTC_TIME, LABEL);
const hiveSpans = spansTable(UTC_TIME, 'String');
const exporterSpans = spansTable('DateTime64(9)', LABEL);

/** The first and last time of each trace, so that a lookup by trace id reads only the partitions of those days. */
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

/** Columns of GraphQL requests that copy an attribute of the root span. */
const REQUEST_TEXTS: readonly (readonly [column: string, attribute: string])[] = [
  ['http_status_code', 'http.status_code'],
  ['http_method', 'http.method'],
  ['http_host', 'http.host'],
  ['http_route', 'http.route'],
  ['http_url', 'http.url'],
  ['client_name', 'hive.client.name'],
  ['client_version', 'hive.client.version'],
  ['graphql_operation_name', 'graphql.operation.name'],
  ['graphql_operation_type', 'graphql.operation.type'],
  ['graphql_operation_document', 'graphql.document'],
  ['graphql_operation_hash', 'hive.graphql.operation.hash'],
];
const REQUEST_LISTS = ['graphql_error_codes', 'subgraph_names'];
const WITHOUT_INDEX = new Set(['graphql_operation_document', 'graphql_operation_hash']);
const ERROR_CODES = "SpanAttributes['hive.graphql.error.codes']";
const SUBGRAPH_NAMES = "SpanAttributes['hive.gateway.operation.subgraph.names']";

/**
 * SQL for the non-empty strings of a JSON array; [] for any other text. Like everything in this view it never throws, as that would
 * fail the insert. Elements that are no strings become what JSONExtractString makes of them, as in Hive's view.
 */
function stringsOf(json: string): string {
  return `arrayFilter(text -> (text != ''), arrayMap(item -> JSONExtractString(item), JSONExtractArrayRaw(${json})))`;
}

/** SQL for a list of names: Hive Gateway sends a JSON array, Hive Router joins names with commas. Text like JSON is not split. */
function namesOf(attribute: string): string {
  const names = `arrayFilter(name -> (name != ''), arrayMap(name -> trimBoth(name), splitByChar(',', ${attribute})))`;
  return `if(match(${attribute}, '^\\\\s*[\\\\[{"]'), ${stringsOf(attribute)}, ${names})`;
}

/** GraphQL requests, one row each: root spans with the attribute hive.graphql, which gateways set. */
export const requests: Table = {
  suffix: '_normalized',
  columns: [
    column('target_id', LABEL),
    column('trace_id', 'String'),
    column('span_id', 'String'),
    column('timestamp', "DateTime('UTC')", 'DoubleDelta, LZ4'),
    column('duration', 'UInt64', 'T64, ZSTD(1)'),
    ...REQUEST_TEXTS.map(([name]) => column(name, name === 'graphql_operation_type' ? LABEL : 'String')),
    column('graphql_error_count', 'UInt32', 'T64, ZSTD(1)'),
    ...REQUEST_LISTS.map((name) => column(name, `Array(${LABEL})`)),
  ],
  indexes: [
    { name: 'idx_duration', definition: `duration ${DURATION_INDEX}` },
    ...[...REQUEST_TEXTS.map(([name]) => name), ...REQUEST_LISTS]
      .filter((name) => !WITHOUT_INDEX.has(name))
      .map((name) => bloomFilter(`idx_${name}`, name, 0.01)),
  ],
  partitionBy: 'toDate(timestamp)',
  orderBy: 'target_id, timestamp',
  expiresFrom: 'toDateTime(timestamp)',
  shardBy: 'cityHash64(trace_id)',
  view: {
    suffix: '_normalized_mv',
    earlier: [requestsOfVersion2],
    select: (from) =>
      `SELECT ${[
        "toLowCardinality(SpanAttributes['hive.target_id']) AS target_id",
        'TraceId AS trace_id',
        'SpanId AS span_id',
        "toDateTime(Timestamp, 'UTC') AS timestamp",
        'Duration AS duration',
        ...REQUEST_TEXTS.map(([name, attribute]) => `SpanAttributes['${attribute}'] AS ${name}`),
        // As in Hive's view: 64 bits are parsed, and the column keeps the lower 32.
        "toUInt32(toInt64OrZero(SpanAttributes['hive.graphql.error.count'])) AS graphql_error_count",
        `${stringsOf(ERROR_CODES)} AS graphql_error_codes`,
        `${namesOf(SUBGRAPH_NAMES)} AS subgraph_names`,
      ].join(', ')} FROM ${from} WHERE empty(ParentSpanId) AND notEmpty(SpanAttributes['hive.graphql'])`,
  },
};

/** The tables to create: `spans` alone, those of clickhouseexporter (`otelcol`), or Hive's (`hive`). */
export type LayoutName = 'spans' | 'otelcol' | 'hive';
export const layouts: Readonly<Record<LayoutName, readonly Table[]>> = {
  spans: [spans],
  otelcol: [exporterSpans, traceTimes],
  hive: [hiveSpans, traceTimes, requests],
};
