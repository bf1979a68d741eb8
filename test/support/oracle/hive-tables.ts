/*
 * The tables and views that Hive's migrations create, written from the names, types and meanings in Hive's documentation and
 * independent of src/schema. Tests compare the layout `hive` with them.
 */

const ATTRIBUTES = 'Map(LowCardinality(String), String)';

/** SQL for the strings in an attribute with a JSON array, without empty ones. */
function strings(attribute: string): string {
  const json = `toString(SpanAttributes['${attribute}'])`;
  const all = `arrayMap(raw -> JSONExtractString(raw), JSONExtractArrayRaw(${json}))`;
  return `if(JSONType(${json}) = 'Array', arrayFilter(s -> notEmpty(s), ${all}), [])`;
}

/** The statements that create Hive's database for traces, in order. */
export function hiveStatements(database: string): string[] {
  return [
    `CREATE DATABASE ${database}`,
    `CREATE TABLE ${database}.otel_traces (
      Timestamp DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
      TraceId String,
      SpanId String,
      ParentSpanId String,
      TraceState String,
      SpanName String,
      SpanKind LowCardinality(String),
      ServiceName LowCardinality(String),
      ResourceAttributes ${ATTRIBUTES},
      ScopeName String,
      ScopeVersion String,
      SpanAttributes ${ATTRIBUTES},
      Duration UInt64,
      StatusCode LowCardinality(String),
      StatusMessage String,
      \`Events.Timestamp\` Array(DateTime64(9, 'UTC')),
      \`Events.Name\` Array(LowCardinality(String)),
      \`Events.Attributes\` Array(${ATTRIBUTES}),
      \`Links.TraceId\` Array(String),
      \`Links.SpanId\` Array(String),
      \`Links.TraceState\` Array(String),
      \`Links.Attributes\` Array(${ATTRIBUTES}),
      INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
      INDEX idx_res_attr_key mapKeys(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_res_attr_value mapValues(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_span_attr_key mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_span_attr_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_duration Duration TYPE minmax GRANULARITY 1
    ) ENGINE = MergeTree
    PARTITION BY toDate(Timestamp)
    ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
    TTL toDate(Timestamp) + toIntervalDay(365)
    SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1`,
    `CREATE TABLE ${database}.otel_traces_trace_id_ts (
      TraceId String,
      Start DateTime CODEC(Delta(4), ZSTD(1)),
      End DateTime CODEC(Delta(4), ZSTD(1)),
      INDEX idx_trace_id TraceId TYPE bloom_filter(0.01) GRANULARITY 1
    ) ENGINE = MergeTree PARTITION BY toDate(Start) ORDER BY (TraceId, Start)
    TTL toDate(Start) + toIntervalDay(365) SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1`,
    `CREATE MATERIALIZED VIEW ${database}.otel_traces_trace_id_ts_mv TO ${database}.otel_traces_trace_id_ts
    AS SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM ${database}.otel_traces WHERE TraceId != '' GROUP BY TraceId`,
    `CREATE TABLE ${database}.otel_traces_normalized (
      target_id LowCardinality(String),
      trace_id String,
      span_id String,
      timestamp DateTime('UTC') CODEC(DoubleDelta, LZ4),
      duration UInt64,
      http_status_code String,
      http_method String,
      http_host String,
      http_route String,
      http_url String,
      client_name String,
      client_version String,
      graphql_operation_name String,
      graphql_operation_type LowCardinality(String),
      graphql_operation_document String,
      graphql_operation_hash String,
      graphql_error_count UInt32,
      graphql_error_codes Array(LowCardinality(String)),
      subgraph_names Array(LowCardinality(String)),
      INDEX idx_duration duration TYPE minmax GRANULARITY 1,
      INDEX idx_http_status_code http_status_code TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_http_method http_method TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_http_host http_host TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_http_route http_route TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_http_url http_url TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_client_name client_name TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_client_version client_version TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_graphql_operation_name graphql_operation_name TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_graphql_operation_type graphql_operation_type TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_graphql_error_codes graphql_error_codes TYPE bloom_filter(0.01) GRANULARITY 1,
      INDEX idx_subgraph_names subgraph_names TYPE bloom_filter(0.01) GRANULARITY 1
    ) ENGINE = MergeTree PARTITION BY toDate(timestamp) ORDER BY (target_id, timestamp)
    TTL toDateTime(timestamp) + toIntervalDay(365) SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1`,
    `CREATE MATERIALIZED VIEW ${database}.otel_traces_normalized_mv TO ${database}.otel_traces_normalized
    AS SELECT
      SpanAttributes['hive.target_id'] AS target_id,
      TraceId AS trace_id,
      SpanId AS span_id,
      toDateTime(Timestamp, 'UTC') AS timestamp,
      Duration AS duration,
      SpanAttributes['http.status_code'] AS http_status_code,
      SpanAttributes['http.method'] AS http_method,
      SpanAttributes['http.host'] AS http_host,
      SpanAttributes['http.route'] AS http_route,
      SpanAttributes['http.url'] AS http_url,
      SpanAttributes['hive.client.name'] AS client_name,
      SpanAttributes['hive.client.version'] AS client_version,
      SpanAttributes['graphql.operation.name'] AS graphql_operation_name,
      SpanAttributes['graphql.operation.type'] AS graphql_operation_type,
      SpanAttributes['graphql.document'] AS graphql_operation_document,
      SpanAttributes['hive.graphql.operation.hash'] AS graphql_operation_hash,
      toInt64OrZero(SpanAttributes['hive.graphql.error.count']) AS graphql_error_count,
      ${strings('hive.graphql.error.codes')} AS graphql_error_codes,
      ${strings('hive.gateway.operation.subgraph.names')} AS subgraph_names
    FROM ${database}.otel_traces
    WHERE empty(ParentSpanId) AND notEmpty(SpanAttributes['hive.graphql'])`,
    ...['otel_traces', 'otel_traces_trace_id_ts', 'otel_traces_normalized'].map(
      (table) => `ALTER TABLE ${database}.${table} MODIFY SETTING non_replicated_deduplication_window = 10000`,
    ),
  ];
}
