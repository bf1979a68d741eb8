/*
 * Converts a decoded OTLP request, from protobufjs or JSON.parse, to rows for JSONEachRow, without optimizations. For the benchmark's
 * requests, columns and values are the same as the collector's.
 */

/** AnyValue: one member, the one that is set. */
type Value = Readonly<Record<string, unknown>>;

interface KeyValue {
  key: string;
  value?: Value | null;
}

/** Bytes from protobufjs, hex from JSON. */
type Id = Buffer | string | undefined;
/** A Long from protobufjs, decimal text from JSON. */
type Nanoseconds = { toString(): string } | undefined;

interface Span {
  traceId?: Id;
  spanId?: Id;
  parentSpanId?: Id;
  traceState?: string;
  name?: string;
  kind?: number;
  startTimeUnixNano?: Nanoseconds;
  endTimeUnixNano?: Nanoseconds;
  attributes?: KeyValue[];
  events?: { timeUnixNano?: Nanoseconds; name?: string; attributes?: KeyValue[] }[];
  links?: { traceId?: Id; spanId?: Id; traceState?: string; attributes?: KeyValue[] }[];
  status?: { code?: number; message?: string } | null;
}

export interface DecodedRequest {
  resourceSpans?: {
    resource?: { attributes?: KeyValue[] } | null;
    scopeSpans?: { scope?: { name?: string; version?: string } | null; spans?: Span[] }[];
  }[];
}

export type Row = Readonly<Record<string, unknown>>;

const SPAN_KINDS = [
  'SPAN_KIND_UNSPECIFIED',
  'SPAN_KIND_INTERNAL',
  'SPAN_KIND_SERVER',
  'SPAN_KIND_CLIENT',
  'SPAN_KIND_PRODUCER',
  'SPAN_KIND_CONSUMER',
];
const STATUS_CODES = ['STATUS_CODE_UNSET', 'STATUS_CODE_OK', 'STATUS_CODE_ERROR'];

/** One row a span. */
export function rowsOf({ resourceSpans = [] }: DecodedRequest, targetId: string): Row[] {
  const rows: Row[] = [];
  for (const { resource, scopeSpans = [] } of resourceSpans) {
    const attributes = attributesOf(resource?.attributes);
    const ServiceName = attributes['service.name'] ?? '';
    const ResourceAttributes = { ...attributes, 'hive.target_id': targetId };
    for (const { scope, spans = [] } of scopeSpans) {
      const shared = { ServiceName, ResourceAttributes, ScopeName: scope?.name ?? '', ScopeVersion: scope?.version ?? '' };
      for (const span of spans) rows.push(Object.assign(rowOf(span, targetId), shared));
    }
  }
  return rows;
}

function rowOf(span: Span, targetId: string): Record<string, unknown> {
  const { events = [], links = [] } = span;
  const duration = BigInt(nanoseconds(span.endTimeUnixNano)) - BigInt(nanoseconds(span.startTimeUnixNano));
  return {
    Timestamp: nanoseconds(span.startTimeUnixNano),
    TraceId: idText(span.traceId),
    SpanId: idText(span.spanId),
    ParentSpanId: idText(span.parentSpanId),
    TraceState: span.traceState ?? '',
    SpanName: span.name ?? '',
    SpanKind: SPAN_KINDS[span.kind ?? 0],
    SpanAttributes: { ...attributesOf(span.attributes), 'hive.target_id': targetId },
    Duration: String(duration > 0n ? duration : 0n),
    StatusCode: STATUS_CODES[span.status?.code ?? 0],
    StatusMessage: span.status?.message ?? '',
    'Events.Timestamp': events.map(({ timeUnixNano }) => nanoseconds(timeUnixNano)),
    'Events.Name': events.map(({ name }) => name ?? ''),
    'Events.Attributes': events.map(({ attributes }) => attributesOf(attributes)),
    'Links.TraceId': links.map(({ traceId }) => idText(traceId)),
    'Links.SpanId': links.map(({ spanId }) => idText(spanId)),
    'Links.TraceState': links.map(({ traceState }) => traceState ?? ''),
    'Links.Attributes': links.map(({ attributes }) => attributesOf(attributes)),
  };
}

function attributesOf(attributes: readonly KeyValue[] = []): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const { key, value } of attributes) {
    const text = textOf(value);
    if (text !== undefined) texts[key] = text;
  }
  return texts;
}

function textOf(value: Value | null | undefined): string | undefined {
  const plain = plainOf(value);
  if (plain === undefined) return undefined;
  return typeof plain === 'string' ? plain : JSON.stringify(plain);
}

function plainOf(value: Value | null | undefined): unknown {
  // Own members only: protobufjs' messages inherit a default for each of the others.
  const [[kind, content] = ['none', undefined]] = Object.entries(value ?? {});
  switch (kind) {
    case 'arrayValue':
      return ((content as { values?: Value[] }).values ?? []).map(plainOf);
    case 'kvlistValue':
      return Object.fromEntries(((content as { values?: KeyValue[] }).values ?? []).map((member) => [member.key, plainOf(member.value)]));
    case 'intValue':
      return String(content);
    default:
      return content;
  }
}

function idText(id: Id): string {
  return typeof id === 'object' ? id.toString('hex') : (id ?? '');
}

function nanoseconds(time: Nanoseconds): string {
  return time === undefined ? '0' : time.toString();
}
