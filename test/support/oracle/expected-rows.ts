import { attributeText, type Dialect } from './attribute-text.ts';
import { decodeRequest, type KeyValue, type OtlpRequest, type Resource, type Scope, type Span } from './otlp-request.ts';

/**
 * The row of a span, as ClickHouse returns it. Names are the table's columns; times (Int64, Unix ns) and the duration (UInt64, ns) are
 * decimal text.
 */
export interface ExpectedRow {
  Timestamp: string;
  TraceId: string;
  SpanId: string;
  ParentSpanId: string;
  TraceState: string;
  SpanName: string;
  SpanKind: string;
  ServiceName: string;
  ResourceAttributes: Record<string, string>;
  ScopeName: string;
  ScopeVersion: string;
  SpanAttributes: Record<string, string>;
  Duration: string;
  StatusCode: string;
  StatusMessage: string;
  'Events.Timestamp': string[];
  'Events.Name': string[];
  'Events.Attributes': Record<string, string>[];
  'Links.TraceId': string[];
  'Links.SpanId': string[];
  'Links.TraceState': string[];
  'Links.Attributes': Record<string, string>[];
}

/** The columns of a span without events and links. */
export const NOTHING_NESTED = {
  'Events.Timestamp': [],
  'Events.Name': [],
  'Events.Attributes': [],
  'Links.TraceId': [],
  'Links.SpanId': [],
  'Links.TraceState': [],
  'Links.Attributes': [],
};

const TARGET_ID = 'hive.target_id';
/** 2262-04-11 23:47:16.854775807 */
const LATEST = 2n ** 63n - 1n;

const SPAN_KINDS = {
  hive: ['SPAN_KIND_UNSPECIFIED', 'SPAN_KIND_INTERNAL', 'SPAN_KIND_SERVER', 'SPAN_KIND_CLIENT', 'SPAN_KIND_PRODUCER', 'SPAN_KIND_CONSUMER'],
  otelcol: ['Unspecified', 'Internal', 'Server', 'Client', 'Producer', 'Consumer'],
};
const UNKNOWN_SPAN_KIND = { hive: 'SPAN_KIND_UNSPECIFIED', otelcol: '' };

const STATUS_CODES = {
  hive: ['STATUS_CODE_UNSET', 'STATUS_CODE_OK', 'STATUS_CODE_ERROR'],
  otelcol: ['Unset', 'Ok', 'Error'],
};
const UNKNOWN_STATUS_CODE = { hive: 'STATUS_CODE_UNSET', otelcol: '' };

/**
 * The rows that the collector must store for a request: one for each span, in the request's order. Follows the row mapping in
 * docs/architecture.md and what protobufjs decodes, independent of the code under test.
 *
 * @param requestBytes an ExportTraceServiceRequest as Protobuf
 * @param targetId the id of the sender's target, which every row has
 */
export function expectedRows(requestBytes: Uint8Array, targetId: string, dialect: Dialect): ExpectedRow[] {
  return rowsOf(decodeRequest(requestBytes), targetId, dialect);
}

/** The same for a decoded request. */
export function rowsOf({ resourceSpans }: OtlpRequest, targetId: string, dialect: Dialect): ExpectedRow[] {
  const rows: ExpectedRow[] = [];
  for (const { resource, scopeSpans } of resourceSpans) {
    const resourceText = describeResource(resource, targetId, dialect);
    for (const { scope, spans } of scopeSpans) rows.push(...spans.map((span) => row(span, scope, resourceText, targetId, dialect)));
  }
  return rows;
}

type ResourceText = Pick<ExpectedRow, 'ResourceAttributes' | 'ServiceName'>;

function describeResource(resource: Resource | undefined, targetId: string, dialect: Dialect): ResourceText {
  const attributes = attributeMap(resource?.attributes ?? [], dialect);
  const serviceName = attributes.get('service.name') ?? '';
  if (dialect === 'hive' || attributes.has(TARGET_ID)) attributes.set(TARGET_ID, targetId);
  return { ResourceAttributes: Object.fromEntries(attributes), ServiceName: serviceName };
}

function row(span: Span, scope: Scope | undefined, resource: ResourceText, targetId: string, dialect: Dialect): ExpectedRow {
  const end = storable(span.endTimeUnixNano);
  // For a span without a start, its end is stored as the start.
  const start = storable(span.startTimeUnixNano) || end;
  const attributes = attributeMap(span.attributes, dialect).set(TARGET_ID, targetId);
  return {
    ...resource,
    Timestamp: String(start),
    TraceId: idText(span.traceId),
    SpanId: idText(span.spanId),
    ParentSpanId: idText(span.parentSpanId),
    TraceState: span.traceState ?? '',
    SpanName: span.name ?? '',
    SpanKind: SPAN_KINDS[dialect][span.kind ?? 0] ?? UNKNOWN_SPAN_KIND[dialect],
    ScopeName: scope?.name ?? '',
    ScopeVersion: scope?.version ?? '',
    SpanAttributes: Object.fromEntries(attributes),
    Duration: String(end > start ? end - start : 0n),
    StatusCode: STATUS_CODES[dialect][span.status?.code ?? 0] ?? UNKNOWN_STATUS_CODE[dialect],
    StatusMessage: span.status?.message ?? '',
    'Events.Timestamp': span.events.map(({ timeUnixNano }) => String(storable(timeUnixNano))),
    'Events.Name': span.events.map(({ name = '' }) => name),
    'Events.Attributes': span.events.map((event) => Object.fromEntries(attributeMap(event.attributes, dialect))),
    'Links.TraceId': span.links.map(({ traceId }) => idText(traceId)),
    'Links.SpanId': span.links.map(({ spanId }) => idText(spanId)),
    'Links.TraceState': span.links.map(({ traceState = '' }) => traceState),
    'Links.Attributes': span.links.map((link) => Object.fromEntries(attributeMap(link.attributes, dialect))),
  };
}

/** hive ignores a key without a value, so an earlier value of that key stays; otelcol stores the empty text for it. */
function attributeMap(attributes: KeyValue[], dialect: Dialect): Map<string, string> {
  const map = new Map<string, string>();
  for (const { key = '', value } of attributes) {
    const text = attributeText(value, dialect) ?? (dialect === 'otelcol' ? '' : undefined);
    if (text !== undefined) map.set(key, text);
  }
  return map;
}

/** DateTime64(9) is a signed 64-bit number of nanoseconds: later times are stored as the largest one. */
function storable(unixNano = 0n): bigint {
  return unixNano < LATEST ? unixNano : LATEST;
}

/** An id of zeros counts as absent. */
function idText(id: Buffer | undefined): string {
  return id === undefined || id.every((byte) => byte === 0) ? '' : id.toString('hex');
}

/** The number of spans that are stored with changed values, by reason. A kind or code of NaN stands for an unknown name. */
export function adjustedSpans({ resourceSpans }: OtlpRequest): Record<string, number> {
  const spans = resourceSpans.flatMap((each) => each.scopeSpans).flatMap((each) => each.spans);
  const reasons = {
    no_start: spans.filter(({ startTimeUnixNano = 0n, endTimeUnixNano = 0n }) => startTimeUnixNano === 0n && endTimeUnixNano !== 0n).length,
    late_time: spans.filter((span) =>
      [span.startTimeUnixNano, span.endTimeUnixNano, ...span.events.map((event) => event.timeUnixNano)].some((time = 0n) => time > LATEST),
    ).length,
    unknown_enum: spans.filter(({ kind, status }) => Number.isNaN(kind) || Number.isNaN(status?.code)).length,
  };
  return Object.fromEntries(Object.entries(reasons).filter(([, count]) => count > 0));
}
