import protobuf from 'protobufjs/light.js';

/*
 * The response messages of OTLP 1.x, written by hand after the .proto files: no npm package has the current ones. Requests are
 * transcoded without message objects; the tests decode them with messages of their own, as an independent check.
 *
 * Fields have their lowerCamelCase JSON names: a message's plain object is also its OTLP/JSON. The names are used as written here:
 * protobufjs converts them only when it parses .proto text (keepCase).
 */

type FieldType = string | { repeated: string };

/**
 * Makes a proto3 message of `{ name: [number, type] }`. The edition is set on each message: protobufjs takes a root for proto2, which
 * drops unknown enum values.
 */
export function message(
  fields: Record<string, [id: number, type: FieldType]>,
  more: Pick<protobuf.IType, 'oneofs' | 'nested'> = {},
): protobuf.IType {
  const entries = Object.entries(fields).map(([name, [id, type]]): [string, protobuf.IField] => [
    name,
    typeof type === 'string' ? { id, type } : { id, type: type.repeated, rule: 'repeated' },
  ]);
  return { edition: 'proto3', fields: Object.fromEntries(entries), ...more };
}

const collector = {
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
      BadRequest: message(
        { fieldViolations: [1, { repeated: 'FieldViolation' }] },
        { nested: { FieldViolation: message({ field: [1, 'string'], description: [2, 'string'] }) } },
      ),
      RetryInfo: message({ retryDelay: [1, 'google.protobuf.Duration'] }),
    },
  },
};

const root = protobuf.Root.fromJSON({
  nested: {
    opentelemetry: { nested: { proto: { nested: { collector: { nested: { trace: { nested: { v1: { nested: collector } } } } } } } } },
    google: { nested: google },
  },
}).resolveAll();

export const ExportTraceServiceResponse = root.lookupType('opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse');

/** google.rpc.Status, the body of every error answer. */
export const RpcStatus = root.lookupType('google.rpc.Status');
/** google.rpc.BadRequest, packed into an Any of a Status' details. */
export const BadRequest = root.lookupType('google.rpc.BadRequest');
/** google.rpc.RetryInfo, packed into an Any of a Status' details. */
export const RetryInfo = root.lookupType('google.rpc.RetryInfo');
export const Any = root.lookupType('google.protobuf.Any');
