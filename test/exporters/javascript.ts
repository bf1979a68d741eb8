import { createTraceState, type SpanContext, TraceFlags } from '@opentelemetry/api';
import { OTLPTraceExporter as GrpcExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, type ReadableSpan, type SpanExporter } from '@opentelemetry/sdk-trace-base';
import { metadataOf } from '../support/clients/grpc-client.ts';
import type { AnyValue, KeyValue, OtlpRequest, Resource, Scope, Span } from '../support/oracle/otlp-request.ts';
import { comparedWithout, NO_LARGE_INTEGERS, ONLY_FINITE } from './limits.ts';
import type { Encoding, Sender } from './sender.ts';

/* The OpenTelemetry SDK for JavaScript: its batch processor and its exporters, given spans that are ended already. */

type GrpcOptions = NonNullable<ConstructorParameters<typeof GrpcExporter>[0]>;
/** Its enum of the compressions, which no package exports by a name of its own. */
type Compression = GrpcOptions['compression'];

const LIMITS = { proto: [NO_LARGE_INTEGERS], json: [NO_LARGE_INTEGERS, ONLY_FINITE], grpc: [NO_LARGE_INTEGERS] };

export function javascriptSenders(request: OtlpRequest): Sender[] {
  const name = 'JavaScript SDK';
  return (['proto', 'json', 'grpc'] as const).flatMap((encoding) =>
    (['none', 'gzip'] as const).map((compression) => ({
      name,
      encoding,
      compression,
      compared: comparedWithout(request, LIMITS[encoding]),
      send: ({ httpUrl, grpcUrl, headers }) => {
        const url = encoding === 'grpc' ? grpcUrl : `${httpUrl}/v1/traces`;
        return sendWithJavaScript(request, javascriptExporter(encoding, compression, url, headers));
      },
    })),
  );
}

/** `url` is where the exporter sends to: with the path, save for gRPC. */
export function javascriptExporter(
  encoding: Encoding,
  compression: 'none' | 'gzip',
  url: string,
  headers: Readonly<Record<string, string>>,
): SpanExporter {
  const options = { url, compression: compression as Compression };
  if (encoding === 'grpc') return new GrpcExporter({ ...options, metadata: metadataOf(headers) });
  return new { proto: ProtobufExporter, json: JsonExporter }[encoding]({ ...options, headers });
}

/** Resolves when the SDK has sent them all, or given up. */
export async function sendWithJavaScript(request: OtlpRequest, exporter: SpanExporter): Promise<void> {
  const processor = new BatchSpanProcessor(exporter);
  for (const span of readableSpans(request)) processor.onEnd(span);
  await processor.shutdown();
}

function readableSpans({ resourceSpans }: OtlpRequest): ReadableSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const sdkResource = resourceOf(resource);
    return scopeSpans.flatMap(({ scope, spans }) => spans.map((span) => readableSpan(span, scope, sdkResource)));
  });
}

function resourceOf(resource: Resource | undefined): ReadableSpan['resource'] {
  return resourceFromAttributes(attributesOf(resource?.attributes ?? []));
}

function readableSpan(span: Span, scope: Scope | undefined, resource: ReadableSpan['resource']): ReadableSpan {
  const { startTimeUnixNano = 0n, endTimeUnixNano = 0n, parentSpanId, traceId, status } = span;
  return {
    name: span.name ?? '',
    // The SDK's kinds begin at INTERNAL.
    kind: (span.kind ?? 1) - 1,
    spanContext: () => contextOf(span),
    ...(parentSpanId !== undefined && { parentSpanContext: contextOf({ traceId, spanId: parentSpanId }) }),
    startTime: hrTime(startTimeUnixNano),
    endTime: hrTime(endTimeUnixNano),
    duration: hrTime(endTimeUnixNano - startTimeUnixNano),
    status: { code: status?.code ?? 0, message: status?.message },
    attributes: attributesOf(span.attributes),
    events: span.events.map(({ name = '', timeUnixNano = 0n, attributes }) => ({
      name,
      time: hrTime(timeUnixNano),
      attributes: attributesOf(attributes),
    })),
    links: span.links.map((link) => ({ context: contextOf(link), attributes: attributesOf(link.attributes) })),
    ended: true,
    resource,
    instrumentationScope: { name: scope?.name ?? '', version: scope?.version },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

function contextOf({ traceId, spanId, traceState }: Pick<Span, 'traceId' | 'spanId' | 'traceState'>): SpanContext {
  return {
    traceId: traceId?.toString('hex') ?? '',
    spanId: spanId?.toString('hex') ?? '',
    traceFlags: TraceFlags.SAMPLED,
    ...(traceState !== undefined && { traceState: createTraceState(traceState) }),
  };
}

function hrTime(nanoseconds: bigint): [number, number] {
  return [Number(nanoseconds / 1_000_000_000n), Number(nanoseconds % 1_000_000_000n)];
}

/** The SDK's types know fewer values than its exporters do. */
function attributesOf(pairs: readonly KeyValue[]): ReadableSpan['attributes'] {
  const entries = pairs.map(({ key = '', value }) => [key, plainValue(value ?? {})] as const);
  return Object.fromEntries(entries.filter(([, value]) => typeof value !== 'bigint')) as ReadableSpan['attributes'];
}

/** As a program would have it; a bigint where no number can hold it. */
function plainValue({ intValue, arrayValue, kvlistValue, ...scalars }: AnyValue): unknown {
  if (intValue !== undefined) return Number.isSafeInteger(Number(intValue)) ? Number(intValue) : intValue;
  if (arrayValue !== undefined) return arrayValue.values.map(plainValue);
  if (kvlistValue !== undefined) return attributesOf(kvlistValue.values);
  return Object.values(scalars)[0];
}
