/*
 * The table of spans, one row each, as Hive has it and the Collector's clickhouseexporter made it first. The types of
 * the columns here may differ from those of the blocks (transcode/native-block.ts): ClickHouse converts.
 */

interface TableColumn {
  readonly name: string;
  readonly definition: string;
}

const ATTRIBUTES = 'Map(LowCardinality(String), String)';

const tableColumns: readonly TableColumn[] = [
  { name: 'Timestamp', definition: "DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1))" },
  { name: 'TraceId', definition: 'String CODEC(ZSTD(1))' },
  { name: 'SpanId', definition: 'String CODEC(ZSTD(1))' },
  { name: 'ParentSpanId', definition: 'String CODEC(ZSTD(1))' },
  { name: 'TraceState', definition: 'String CODEC(ZSTD(1))' },
  { name: 'SpanName', definition: 'String CODEC(ZSTD(1))' },
  { name: 'SpanKind', definition: 'LowCardinality(String) CODEC(ZSTD(1))' },
  { name: 'ServiceName', definition: 'LowCardinality(String) CODEC(ZSTD(1))' },
  { name: 'ResourceAttributes', definition: `${ATTRIBUTES} CODEC(ZSTD(1))` },
  { name: 'ScopeName', definition: 'String CODEC(ZSTD(1))' },
  { name: 'ScopeVersion', definition: 'String CODEC(ZSTD(1))' },
  { name: 'SpanAttributes', definition: `${ATTRIBUTES} CODEC(ZSTD(1))` },
  { name: 'Duration', definition: 'UInt64 CODEC(ZSTD(1))' },
  { name: 'StatusCode', definition: 'LowCardinality(String) CODEC(ZSTD(1))' },
  { name: 'StatusMessage', definition: 'String CODEC(ZSTD(1))' },
  { name: 'Events.Timestamp', definition: "Array(DateTime64(9, 'UTC')) CODEC(ZSTD(1))" },
  { name: 'Events.Name', definition: 'Array(LowCardinality(String)) CODEC(ZSTD(1))' },
  { name: 'Events.Attributes', definition: `Array(${ATTRIBUTES}) CODEC(ZSTD(1))` },
  { name: 'Links.TraceId', definition: 'Array(String) CODEC(ZSTD(1))' },
  { name: 'Links.SpanId', definition: 'Array(String) CODEC(ZSTD(1))' },
  { name: 'Links.TraceState', definition: 'Array(String) CODEC(ZSTD(1))' },
  { name: 'Links.Attributes', definition: `Array(${ATTRIBUTES}) CODEC(ZSTD(1))` },
];

const skipIndexes: readonly string[] = [
  'idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1',
  'idx_res_attr_key mapKeys(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1',
  'idx_res_attr_value mapValues(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1',
  'idx_span_attr_key mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1',
  'idx_span_attr_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1',
  'idx_duration Duration TYPE minmax GRANULARITY 1',
];

/** Inserts whose tokens ClickHouse remembers: a retry within the last this many is stored once. */
export const DEDUPLICATION_WINDOW = 10_000;

/** The statements that create database and table where they are missing; in order, each harmless when repeated. */
export function createStatements(database: string, table: string): readonly string[] {
  const lines = [
    ...tableColumns.map(({ name, definition }) => `\`${name}\` ${definition}`),
    ...skipIndexes.map((index) => `INDEX ${index}`),
  ];
  return [
    `CREATE DATABASE IF NOT EXISTS \`${database}\``,
    `CREATE TABLE IF NOT EXISTS \`${database}\`.\`${table}\` (
  ${lines.join(',\n  ')}
) ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
TTL toDate(Timestamp) + toIntervalDay(365)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, non_replicated_deduplication_window = ${DEDUPLICATION_WINDOW}`,
  ];
}
