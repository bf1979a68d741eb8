import { ExportTraceServiceRequest } from './otlp-messages.ts';

/*
 * A request as plain objects with exact 64-bit values: protobufjs decodes to them, and the random generators start from them. Scalars with
 * their default value are absent, as proto3 does not distinguish the two. Messages and members of AnyValue are present even if empty.
 */

export interface OtlpRequest {
  resourceSpans: ResourceSpans[];
}

export interface ResourceSpans {
  resource?: Resource;
  scopeSpans: ScopeSpans[];
  schemaUrl?: string;
}

export interface Resource {
  attributes: KeyValue[];
  droppedAttributesCount?: number;
}

export interface ScopeSpans {
  scope?: Scope;
  spans: Span[];
  schemaUrl?: string;
}

export interface Scope {
  name?: string;
  version?: string;
  attributes: KeyValue[];
  droppedAttributesCount?: number;
}

export interface Span {
  traceId?: Buffer;
  spanId?: Buffer;
  traceState?: string;
  parentSpanId?: Buffer;
  name?: string;
  kind?: number;
  startTimeUnixNano?: bigint;
  endTimeUnixNano?: bigint;
  attributes: KeyValue[];
  droppedAttributesCount?: number;
  events: SpanEvent[];
  droppedEventsCount?: number;
  links: Link[];
  droppedLinksCount?: number;
  status?: Status;
  flags?: number;
}

export interface SpanEvent {
  timeUnixNano?: bigint;
  name?: string;
  attributes: KeyValue[];
  droppedAttributesCount?: number;
}

export interface Link {
  traceId?: Buffer;
  spanId?: Buffer;
  traceState?: string;
  attributes: KeyValue[];
  droppedAttributesCount?: number;
  flags?: number;
}

export interface Status {
  message?: string;
  code?: number;
}

export interface KeyValue {
  key?: string;
  value?: AnyValue;
}

/** At most one member is set; with none the value is absent. */
export interface AnyValue {
  stringValue?: string;
  boolValue?: boolean;
  intValue?: bigint;
  doubleValue?: number;
  arrayValue?: { values: AnyValue[] };
  kvlistValue?: { values: KeyValue[] };
  bytesValue?: Buffer;
}

/** Decodes with protobufjs. @throws Error when the bytes are no ExportTraceServiceRequest */
export function decodeRequest(bytes: Uint8Array): OtlpRequest {
  const message = ExportTraceServiceRequest.decode(bytes);
  const { resourceSpans } = ExportTraceServiceRequest.toObject(message, { longs: BigInt, arrays: true });
  return { resourceSpans };
}

/** Encodes with protobufjs: every field once, in the order of the field numbers. */
export function encodeRequest(request: OtlpRequest): Uint8Array {
  return ExportTraceServiceRequest.encode(ExportTraceServiceRequest.fromObject(request)).finish();
}
