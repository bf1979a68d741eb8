import { JsonFieldNames } from './json-field-names.ts';

/*
 * The messages of an ExportTraceServiceRequest as OTLP/JSON names their fields. The numbers are those of the .proto files
 * (see protobuf-transcoder.ts), so that both transcoders read alike. AnyValue is in json-value.ts.
 */

export const REQUEST = new JsonFieldNames({ resourceSpans: 1 });
export const RESOURCE_SPANS = new JsonFieldNames({ resource: 1, scopeSpans: 2, schemaUrl: 3, instrumentationLibrarySpans: 1000 });
export const RESOURCE = new JsonFieldNames({ attributes: 1, droppedAttributesCount: 2 });
export const SCOPE_SPANS = new JsonFieldNames({ scope: 1, spans: 2, schemaUrl: 3 });
/** InstrumentationLibrarySpans: what ScopeSpans were called before OTLP 0.15. */
export const LIBRARY_SPANS = new JsonFieldNames({ instrumentationLibrary: 1, spans: 2, schemaUrl: 3 });
export const SCOPE = new JsonFieldNames({ name: 1, version: 2, attributes: 3, droppedAttributesCount: 4 });
export const SPAN = new JsonFieldNames({
  traceId: 1,
  spanId: 2,
  traceState: 3,
  parentSpanId: 4,
  name: 5,
  kind: 6,
  startTimeUnixNano: 7,
  endTimeUnixNano: 8,
  attributes: 9,
  droppedAttributesCount: 10,
  events: 11,
  droppedEventsCount: 12,
  links: 13,
  droppedLinksCount: 14,
  status: 15,
  flags: 16,
});
export const EVENT = new JsonFieldNames({ timeUnixNano: 1, name: 2, attributes: 3, droppedAttributesCount: 4 });
export const LINK = new JsonFieldNames({ traceId: 1, spanId: 2, traceState: 3, attributes: 4, droppedAttributesCount: 5, flags: 6 });
export const STATUS = new JsonFieldNames({ message: 2, code: 3 });
