/*
 * The queries of views in earlier versions of the schema. A view with one of them was created by this collector, so `apply` may replace
 * its query. Never change one: databases contain it word for word. Only white space may differ, as ClickHouse formats both sides
 * before they are compared.
 */

/** The query of `_normalized_mv` in schema version 2. @param from the spans table, quoted */
export function requestsOfVersion2(from: string): string {
  return `SELECT
    toLowCardinality(SpanAttributes['hive.target_id']) AS target_id,
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
    SpanAttributes['hive.graphql.operation.name'] AS graphql_operation_name,
    SpanAttributes['hive.graphql.operation.type'] AS graphql_operation_type,
    SpanAttributes['hive.graphql.operation.document'] AS graphql_operation_document,
    toUInt32OrZero(SpanAttributes['hive.graphql.error.count']) AS graphql_error_count,
    splitByChar(',', SpanAttributes['hive.graphql.error.codes']) AS graphql_error_codes,
    splitByChar(',', SpanAttributes['hive.subgraph.names']) AS subgraph_names
  FROM ${from}
  WHERE empty(ParentSpanId)`;
}
