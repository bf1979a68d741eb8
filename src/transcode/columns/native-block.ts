import { ByteBuffer } from '../bytes/byte-buffer.ts';
import type { AttributesColumn } from './attributes-column.ts';
import type { SpanColumns } from './span-columns.ts';

/*
 * A ClickHouse Native block, as FORMAT Native reads it over HTTP:
 *
 *   varint columns, varint rows, then for each column:
 *   String name, String type, the type's prefixes (u64 1 for each LowCardinality in it), data
 *
 *   UInt64, DateTime64   8 bytes a row, little-endian
 *   String               varint length and bytes, a row after the other
 *   LowCardinality       see low-cardinality-column.ts
 *   Array(T)             u64 offsets, then T's data for all elements; nested columns repeat the offsets of their siblings
 *   Map(K, V)            as Array of K, then V, over the same offsets
 */

/** The version of ClickHouse's LowCardinality serialization: dictionary keys in every block. */
const LOW_CARDINALITY_VERSION = 1;
const LOW_CARDINALITY = 'LowCardinality(String)';

interface WireColumn {
  readonly name: string;
  /** The type of the data sent. ClickHouse converts it where the table's differs (LowCardinality or not). */
  readonly type: string;
  readonly write: (out: ByteBuffer, columns: SpanColumns) => void;
}

function plain(name: string, type: string, data: (columns: SpanColumns) => ByteBuffer): WireColumn {
  return { name, type, write: (out, columns) => out.append(data(columns)) };
}

function lowCardinality(name: string, column: (columns: SpanColumns) => { encode(out: ByteBuffer): void }): WireColumn {
  return {
    name,
    type: LOW_CARDINALITY,
    write: (out, columns) => {
      out.u64(LOW_CARDINALITY_VERSION);
      column(columns).encode(out);
    },
  };
}

function attributes(out: ByteBuffer, column: AttributesColumn): void {
  out.append(column.offsets.bytes);
  column.keys.encode(out);
  out.append(column.values);
}

/** The columns of a block, in the order they are sent. Names that the table does not have are dropped by ClickHouse without a word. */
export const wireColumns: readonly WireColumn[] = [
  plain('Timestamp', 'DateTime64(9)', (c) => c.timestamp),
  plain('TraceId', 'String', (c) => c.traceId),
  plain('SpanId', 'String', (c) => c.spanId),
  plain('ParentSpanId', 'String', (c) => c.parentSpanId),
  plain('TraceState', 'String', (c) => c.traceState),
  lowCardinality('SpanName', (c) => c.spanName),
  lowCardinality('SpanKind', (c) => c.spanKind),
  lowCardinality('ServiceName', (c) => c.serviceName),
  {
    name: 'ResourceAttributes',
    type: 'Map(LowCardinality(String), LowCardinality(String))',
    write: (out, { resourceAttributes: { offsets, keys, values } }) => {
      out.u64(LOW_CARDINALITY_VERSION);
      out.u64(LOW_CARDINALITY_VERSION);
      out.append(offsets.bytes);
      keys.encode(out);
      values.encode(out);
    },
  },
  lowCardinality('ScopeName', (c) => c.scopeName),
  lowCardinality('ScopeVersion', (c) => c.scopeVersion),
  {
    name: 'SpanAttributes',
    type: 'Map(LowCardinality(String), String)',
    write: (out, { spanAttributes }) => {
      out.u64(LOW_CARDINALITY_VERSION);
      attributes(out, spanAttributes);
    },
  },
  plain('Duration', 'UInt64', (c) => c.duration),
  lowCardinality('StatusCode', (c) => c.statusCode),
  plain('StatusMessage', 'String', (c) => c.statusMessage),
  {
    name: 'Events.Timestamp',
    type: 'Array(DateTime64(9))',
    write: (out, { events, eventTimestamp }) => {
      out.append(events.bytes);
      out.append(eventTimestamp);
    },
  },
  {
    name: 'Events.Name',
    type: 'Array(LowCardinality(String))',
    write: (out, { events, eventName }) => {
      out.u64(LOW_CARDINALITY_VERSION);
      out.append(events.bytes);
      eventName.encode(out);
    },
  },
  {
    name: 'Events.Attributes',
    type: 'Array(Map(LowCardinality(String), String))',
    write: (out, { events, eventAttributes }) => {
      out.u64(LOW_CARDINALITY_VERSION);
      out.append(events.bytes);
      attributes(out, eventAttributes);
    },
  },
  linkStrings('Links.TraceId', (c) => c.linkTraceId),
  linkStrings('Links.SpanId', (c) => c.linkSpanId),
  linkStrings('Links.TraceState', (c) => c.linkTraceState),
  {
    name: 'Links.Attributes',
    type: 'Array(Map(LowCardinality(String), String))',
    write: (out, { links, linkAttributes }) => {
      out.u64(LOW_CARDINALITY_VERSION);
      out.append(links.bytes);
      attributes(out, linkAttributes);
    },
  },
];

function linkStrings(name: string, data: (columns: SpanColumns) => ByteBuffer): WireColumn {
  return {
    name,
    type: 'Array(String)',
    write: (out, columns) => {
      out.append(columns.links.bytes);
      out.append(data(columns));
    },
  };
}

/** Appends the open columns to `out` as one Native block. */
export function encodeNativeBlock(out: ByteBuffer, columns: SpanColumns): void {
  out.varint(wireColumns.length);
  out.varint(columns.rows);
  for (const { name, type, write } of wireColumns) {
    out.varint(name.length);
    out.ascii(name);
    out.varint(type.length);
    out.ascii(type);
    // ClickHouse reads nothing behind the type where there are no rows, no prefixes either.
    if (columns.rows > 0) write(out, columns);
  }
}
