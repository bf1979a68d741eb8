import protobuf from 'protobufjs/light.js';
import { message } from '../../../src/otlp/messages.ts';

/*
 * The requests of OTLP 1.x, written by hand from the .proto files, for protobufjs. The collector transcodes requests without them, so the
 * tests can compare it with them.
 */

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
  },
}).resolveAll();

export const ExportTraceServiceRequest = root.lookupType('opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest');
