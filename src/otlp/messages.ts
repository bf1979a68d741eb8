import protobuf from 'protobufjs/light.js';

/*
 * The OTLP 1.x messages, by hand from the .proto files, as no npm package holds the current ones.
 *
 * Fields bear their lowerCamelCase JSON names, so a message's plain object is also its OTLP/JSON. Names are used
 * as written here: protobufjs converts cases only when it parses .proto text (keepCase), which is not done.
 *
 * The collector builds only its answers with these (ExportTraceServiceResponse, google.rpc.Status): requests are
 * transcoded without them. The tests decode requests with them, as the independent opinion.
 */

type FieldType = string | { repeated: string };

/** `{ name: [number, type] }` as a proto3 message. Said of each message: protobufjs takes a root for proto2, which drops unknown enum values. */
function message(
  fields: Record<string, [id: number, type: FieldType]>,
  more: { oneofs?: Record<string, protobuf.IOneOf>; nested?: Record<string, protobuf.AnyNestedObject> } = {},
): protobuf.IType {
  const entries = Object.entries(fields).map(([name, [id, type]]): [string, protobuf.IField] => [
    name,
    typeof type === 'string' ? { id, type } : { id, type: type.repeated, rule: 'repeated' },
  ]);
  return { edition: 'proto3', fields: Object.fromEntries(entries), ...more };
}

const common = {
  AnyValue: message(
    {
      stringValue: [1, 'string'],
      boolValue: [2, 'bool'],
      intValue: [3, 'int64'],
      doubleValue: [4, 'double'],
      arrayValue: [5, 'ArrayValue'],
      kvlistValue: [6, 'KeyValueList'],
      bytesValue: [7, 'bytes'],
    },
    {
      oneofs: {
        value: { oneof: ['stringValue', 'boolValue', 'intValue', 'doubleValue', 'arrayValue', 'kvlistValue', 'bytesValue'] },
      },
    },
  ),
  ArrayValue: message({ values: [1, { repeated: 'AnyValue' }] }),
  KeyValueList: message({ values: [1, { repeated: 'KeyValue' }] }),
  KeyValue: message({ key: [1, 'string'], value: [2, 'AnyValue'] }),
  InstrumentationScope: message({
    name: [1, 'string'],
    version: [2, 'string'],
    attributes: [3, { repeated: 'KeyValue' }],
    droppedAttributesCount: [4, 'uint32'],
  }),
};

const KEY_VALUES = { repeated: 'opentelemetry.proto.common.v1.KeyValue' };

const resource = {
  Resource: message({ attributes: [1, KEY_VALUES], droppedAttributesCount: [2, 'uint32'] }),
};

const trace = {
  ResourceSpans: message({
    resource: [1, 'opentelemetry.proto.resource.v1.Resource'],
    scopeSpans: [2, { repeated: 'ScopeSpans' }],
    schemaUrl: [3, 'string'],
  }),
  ScopeSpans: message({
    scope: [1, 'opentelemetry.proto.common.v1.InstrumentationScope'],
    spans: [2, { repeated: 'Span' }],
    schemaUrl: [3, 'string'],
  }),
  Span: message(
    {
      traceId: [1, 'bytes'],
      spanId: [2, 'bytes'],
      traceState: [3, 'string'],
      parentSpanId: [4, 'bytes'],
      name: [5, 'string'],
      kind: [6, 'SpanKind'],
      startTimeUnixNano: [7, 'fixed64'],
      endTimeUnixNano: [8, 'fixed64'],
      attributes: [9, KEY_VALUES],
      droppedAttributesCount: [10, 'uint32'],
      events: [11, { repeated: 'Event' }],
      droppedEventsCount: [12, 'uint32'],
      links: [13, { repeated: 'Link' }],
      droppedLinksCount: [14, 'uint32'],
      status: [15, 'Status'],
      flags: [16, 'fixed32'],
    },
    {
      nested: {
        SpanKind: {
          values: {
            SPAN_KIND_UNSPECIFIED: 0,
            SPAN_KIND_INTERNAL: 1,
            SPAN_KIND_SERVER: 2,
            SPAN_KIND_CLIENT: 3,
            SPAN_KIND_PRODUCER: 4,
            SPAN_KIND_CONSUMER: 5,
          },
        },
        Event: message({
          timeUnixNano: [1, 'fixed64'],
          name: [2, 'string'],
          attributes: [3, KEY_VALUES],
          droppedAttributesCount: [4, 'uint32'],
        }),
        Link: message({
          traceId: [1, 'bytes'],
          spanId: [2, 'bytes'],
          traceState: [3, 'string'],
          attributes: [4, KEY_VALUES],
          droppedAttributesCount: [5, 'uint32'],
          flags: [6, 'fixed32'],
        }),
      },
    },
  ),
  Status: message(
    { message: [2, 'string'], code: [3, 'StatusCode'] },
    { nested: { StatusCode: { values: { STATUS_CODE_UNSET: 0, STATUS_CODE_OK: 1, STATUS_CODE_ERROR: 2 } } } },
  ),
};

const collector = {
  ExportTraceServiceRequest: message({ resourceSpans: [1, { repeated: 'opentelemetry.proto.trace.v1.ResourceSpans' }] }),
  ExportTraceServiceResponse: message({ partialSuccess: [1, 'ExportTracePartialSuccess'] }),
  ExportTracePartialSuccess: message({ rejectedSpans: [1, 'int64'], errorMessage: [2, 'string'] }),
};

const google = {
  protobuf: {
    nested: {
      Any: message({ typeUrl: [1, 'string'], value: [2, 'bytes'] }),
      Duration: message({ seconds: [1, 'int64'], nanos: [2, 'int32'] }),
    },
  },
  rpc: {
    nested: {
      Status: message({ code: [1, 'int32'], message: [2, 'string'], details: [3, { repeated: 'google.protobuf.Any' }] }),
      BadRequest: message({ fieldViolations: [1, { repeated: 'FieldViolation' }] }, { nested: { FieldViolation: message({ field: [1, 'string'], description: [2, 'string'] }) } }),
      RetryInfo: message({ retryDelay: [1, 'google.protobuf.Duration'] }),
    },
  },
};

const root = protobuf.Root.fromJSON({
  nested: {
    opentelemetry: {
      nested: {
        proto: {
          nested: {
            common: { nested: { v1: { nested: common } } },
            resource: { nested: { v1: { nested: resource } } },
            trace: { nested: { v1: { nested: trace } } },
            collector: { nested: { trace: { nested: { v1: { nested: collector } } } } },
          },
        },
      },
    },
    google: { nested: google },
  },
}).resolveAll();

export const AnyValue = root.lookupType('opentelemetry.proto.common.v1.AnyValue');
export const ExportTraceServiceRequest = root.lookupType('opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest');
export const ExportTraceServiceResponse = root.lookupType('opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse');
export const ExportTracePartialSuccess = root.lookupType('opentelemetry.proto.collector.trace.v1.ExportTracePartialSuccess');

/** google.rpc.Status, the body of every error answer. */
export const RpcStatus = root.lookupType('google.rpc.Status');
/** google.rpc.BadRequest, packed into an Any of a Status' details. */
export const BadRequest = root.lookupType('google.rpc.BadRequest');
/** google.rpc.RetryInfo, packed into an Any of a Status' details. */
export const RetryInfo = root.lookupType('google.rpc.RetryInfo');
export const Any = root.lookupType('google.protobuf.Any');
