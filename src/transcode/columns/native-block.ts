import { ByteBuffer } from '../bytes/byte-buffer.ts';
import type { AttributesColumn } from './attributes-column.ts';
import type { OffsetsColumn } from './offsets-column.ts';
import type { SpanColumns } from './span-columns.ts';

/*
 * A ClickHouse Native block, as FORMAT Native reads it over HTTP:
 *
 *   varint columns, varint rows, then for each column:
 *   String name, String type, the type's prefixes (UInt64 1 for each LowCardinality in it), data
 *
 *   UInt64, DateTime64   8 bytes a row, little-endian
 *   String               varint length and bytes, one row after the other
 *   LowCardinality       see low-cardinality-column.ts
 *   Array(T)             UInt64 offsets, then T's data for all elements; nested columns repeat the offsets of their siblings
 *   Map(K, V)            as Array of K, then V, over the same offsets
 */

/** The version of ClickHouse's LowCardinality serialization: dictionary keys in every block. */
const LOW_CARDINALITY_VERSION = 1;
const LOW_CARDINALITY = 'LowCardinality(String)';
const ATTRIBUTES = `Map(${LOW_CARDINALITY}, String)`;

interface WireColumn {
  readonly name: string;
  /** The type of the data sent. ClickHouse converts it where the table's differs (LowCardinality or not). */
  readonly type: string;
  /** Writes the column's data, without the type's prefixes. */
  readonly write: (out: ByteBuffer, columns: SpanColumns) => void;
}

type BytesOf = (columns: SpanColumns) => ByteBuffer;

/** A column whose rows are in one buffer. */
function plain(name: string, type: string, bytes: BytesOf): WireColumn {
  return { name, type, write: (out, columns) => out.append(bytes(columns)) };
}

function lowCardinality(name: string, column: (columns: SpanColumns) => { encode(out: ByteBuffer): void }): WireColumn {
  return { name, type: LOW_CARDINALITY, write: (out, columns) => column(columns).encode(out) };
}

/** A column of the events or links of a row. */
function nested(name: string, type: string, offsets: (columns: SpanColumns) => OffsetsColumn, data: WireColumn['write']): WireColumn {
  return {
    name,
    type: `Array(${type})`,
    write: (out, columns) => {
      out.append(offsets(columns).bytes);
      data(out, columns);
    },
  };
}

function event(name: string, type: string, data: WireColumn['write']): WireColumn {
  return nested(`Events.${name}`, type, (c) => c.events, data);
}

function link(name: string, type: string, data: WireColumn['write']): WireColumn {
  return nested(`Links.${name}`, type, (c) => c.links, data);
}

function writeAttributes(out: ByteBuffer, { offsets, keys, values }: AttributesColumn): void {
  out.append(offsets.bytes);
  keys.encode(out);
  out.append(values);
}

function writeResourceAttributes(out: ByteBuffer, { resourceAttributes: { offsets, keys, values } }: SpanColumns): void {
  out.append(offsets.bytes);
  keys.encode(out);
  values.encode(out);
}

/** The columns of a block, in the order they are sent. ClickHouse silently drops those that the table does not have. */
export const wireColumns: readonly WireColumn[] = [
  plain('Timestamp', 'DateTime64(9)', (c) => c.timestamp),
  plain('TraceId', 'String', (c) => c.traceId),
  plain('SpanId', 'String', (c) => c.spanId),
  plain('ParentSpanId', 'String', (c) => c.parentSpanId),
  plain('TraceState', 'String', (c) => c.traceState),
  lowCardinality('SpanName', (c) => c.spanName),
  lowCardinality('SpanKind', (c) => c.spanKind),
  lowCardinality('ServiceName', (c) => c.serviceName),
  { name: 'ResourceAttributes', type: `Map(${LOW_CARDINALITY}, ${LOW_CARDINALITY})`, write: writeResourceAttributes },
  lowCardinality('ScopeName', (c) => c.scopeName),
  lowCardinality('ScopeVersion', (c) => c.scopeVersion),
  { name: 'SpanAttributes', type: ATTRIBUTES, write: (out, c) => writeAttributes(out, c.spanAttributes) },
  plain('Duration', 'UInt64', (c) => c.duration),
  lowCardinality('StatusCode', (c) => c.statusCode),
  plain('StatusMessage', 'String', (c) => c.statusMessage),
  event('Timestamp', 'DateTime64(9)', (out, c) => out.append(c.eventTimestamp)),
  event('Name', LOW_CARDINALITY, (out, c) => c.eventName.encode(out)),
  event('Attributes', ATTRIBUTES, (out, c) => writeAttributes(out, c.eventAttributes)),
  link('TraceId', 'String', (out, c) => out.append(c.linkTraceId)),
  link('SpanId', 'String', (out, c) => out.append(c.linkSpanId)),
  link('TraceState', 'String', (out, c) => out.append(c.linkTraceState)),
  link('Attributes', ATTRIBUTES, (out, c) => writeAttributes(out, c.linkAttributes)),
];

/** Appends the open columns to `out` as one Native block. */
export function encodeNativeBlock(out: ByteBuffer, columns: SpanColumns): void {
  out.varint(wireColumns.length);
  out.varint(columns.rows);
  for (const { name, type, write } of wireColumns) {
    out.varint(name.length);
    out.ascii(name);
    out.varint(type.length);
    out.ascii(type);
    // Where there are no rows, ClickHouse reads nothing after the type, not even the prefixes.
    if (columns.rows === 0) continue;
    for (let i = lowCardinalitiesIn(type); i > 0; i--) out.u64(LOW_CARDINALITY_VERSION);
    write(out, columns);
  }
}

/** How many LowCardinality types are in a type. Each has a prefix of 8 bytes, its version. */
export function lowCardinalitiesIn(type: string): number {
  return type.split('LowCardinality(').length - 1;
}
