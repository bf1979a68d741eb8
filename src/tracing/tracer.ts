import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import {
  type Attributes,
  type Link,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  type SpanOptions,
  trace,
  type Tracer as ApiTracer,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { AlwaysOnSampler, BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { Config } from '../config/variables.ts';
import { version } from '../config/version.ts';
import type { ClientConnection } from '../http/plain-connection.ts';
import { ReportingExporter } from './reporting-exporter.ts';
import { RequestTrace } from './request-trace.ts';
import type { SpanStarter } from './span-starter.ts';
import { TraceClock } from './trace-clock.ts';

/*
 * The only file that loads OpenTelemetry's SDK. It is loaded only if ENABLE_SELF_TRACING is true. The names of attributes are those of
 * the semantic conventions 1.37; additional ones begin with hive_collector.
 */

const PRODUCT = 'hive-otel-collector/';
/** Version, trace id, span id, flags (W3C Trace Context). */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-|$)/;

/** The part of a gRPC call that a trace uses. */
export interface TracedCall {
  readonly headers: IncomingHttpHeaders;
  /** gRPC's status code; set with the answer. */
  readonly status: number | undefined;
  /** Calls `listener` when the call has ended. */
  onceOver(listener: () => void): void;
}

/** Starts the spans of requests; blocks and inserts get child spans of these. */
export class Tracer implements SpanStarter {
  /** The attributes that name the database and the table of inserts. */
  readonly table: Attributes;
  /** The fraction of requests that are traced, from 0 to 1. */
  private readonly ratio: number;
  private readonly provider: BasicTracerProvider;
  private readonly tracer: ApiTracer;

  /** @param endpoint the URL that the spans are sent to */
  constructor(config: Config, endpoint: string) {
    this.table = {
      'db.system.name': 'clickhouse',
      'db.operation.name': 'INSERT',
      'db.namespace': config.CLICKHOUSE_DATABASE,
      'db.collection.name': config.CLICKHOUSE_TABLE,
    };
    this.ratio = ratioOf(config);
    const exporter = new OTLPTraceExporter({
      url: endpoint,
      headers: { ...config.OTEL_EXPORTER_OTLP_HEADERS, ...config.OTEL_EXPORTER_OTLP_TRACES_HEADERS },
      userAgent: `${PRODUCT}${version}`,
    });
    this.provider = new BasicTracerProvider({
      resource: defaultResource()
        .merge(resourceFromAttributes({ 'service.name': config.OTEL_SERVICE_NAME, 'service.version': version }))
        .merge(detectResources({ detectors: [envDetector] })),
      // Requests are sampled before a span is started: one that is not traced costs nothing here.
      sampler: new AlwaysOnSampler(),
      spanProcessors: [new BatchSpanProcessor(new ReportingExporter(exporter, new URL(endpoint).origin))],
    });
    this.tracer = this.provider.getTracer('hive-otel-collector', version);
  }

  /** Starts the span of a request that node:http reads; it ends with the answer. Undefined if the request is not traced. */
  request(request: IncomingMessage, response: ServerResponse): RequestTrace | undefined {
    if (!this.samples(request.headers)) return undefined;
    const traced = this.httpRequest(request.headers, request.httpVersion);
    // Also emitted when the connection closes without an answer.
    response.once('close', () => {
      traced.answered('http.response.status_code', response.writableFinished ? response.statusCode : undefined);
    });
    return traced;
  }

  /** Starts the span of a plain request; it ends with the answer. Undefined if the request is not traced. */
  plainRequest(headers: IncomingHttpHeaders, connection: Pick<ClientConnection, 'onceAnswered'>): RequestTrace | undefined {
    if (!this.samples(headers)) return undefined;
    const traced = this.httpRequest(headers, '1.1');
    connection.onceAnswered((status) => traced.answered('http.response.status_code', status));
    return traced;
  }

  /** Starts the span of a gRPC call; it ends with the call. Undefined if the call is not traced. */
  call(call: TracedCall, service: string): RequestTrace | undefined {
    if (!this.samples(call.headers)) return undefined;
    const attributes = { 'rpc.system': 'grpc', 'rpc.service': service, 'rpc.method': 'Export' };
    const traced = this.incoming(`${service}/Export`, call.headers, attributes);
    call.onceOver(() => traced.answered('rpc.grpc.status_code', call.status));
    return traced;
  }

  /** Starts a child span of `parent`. */
  start(name: string, parent: Span, options: SpanOptions): Span {
    return this.tracer.startSpan(name, options, trace.setSpan(ROOT_CONTEXT, parent));
  }

  /** Sends the remaining spans. Resolves when they are sent, or can't be. */
  async stop(): Promise<void> {
    await this.provider.shutdown().catch(() => {});
  }

  /** Whether a request is traced. Requests with a collector's own traces are not: if it sends them to itself, they would never end. */
  private samples(headers: IncomingHttpHeaders): boolean {
    return Math.random() < this.ratio && headers['user-agent']?.startsWith(PRODUCT) !== true;
  }

  private httpRequest(headers: IncomingHttpHeaders, httpVersion: string): RequestTrace {
    return this.incoming('POST /v1/traces', headers, {
      'http.request.method': 'POST',
      'http.route': '/v1/traces',
      'url.path': '/v1/traces',
      'url.scheme': 'http',
      'network.protocol.version': httpVersion,
    });
  }

  private incoming(name: string, headers: IncomingHttpHeaders, attributes: Attributes): RequestTrace {
    const userAgent = headers['user-agent'];
    const clock = new TraceClock();
    const span = this.tracer.startSpan(name, {
      kind: SpanKind.SERVER,
      root: true,
      startTime: clock.now(),
      links: senderOf(headers),
      attributes: { ...attributes, 'user_agent.original': userAgent },
    });
    return new RequestTrace(this, span, clock);
  }
}

/** The link to the sender's span. It is not the parent: the sender decides neither whether a request is traced, nor in which trace. */
function senderOf({ traceparent }: IncomingHttpHeaders): Link[] {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(typeof traceparent === 'string' ? traceparent : '') ?? [];
  if (traceId === undefined) return [];
  const context = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
  return trace.isSpanContextValid(context) ? [{ context }] : [];
}

function ratioOf({ OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: ratio }: Config): number {
  if (name.endsWith('always_on')) return 1;
  return name.endsWith('always_off') ? 0 : ratio;
}
