import { type Span, SpanStatusCode } from '@opentelemetry/api';
import type { Encoding } from '../otlp/encoding.ts';
import { BlockTrace } from './block-trace.ts';
import type { SpanStarter } from './span-starter.ts';
import type { TraceClock } from './trace-clock.ts';

/** The properties of a transcoded request. */
export interface TranscodedRequest {
  readonly targetId: string;
  readonly encoding: Encoding;
  readonly bodyBytes: number;
  readonly spans: number;
}

/**
 * The span of a request. A trace leads from the request to ClickHouse. As a block holds many requests, and an insert many blocks, the
 * first traced one is the parent, and the others are linked:
 *
 *   POST /v1/traces  ├───────────────────────────────────┤
 *     authenticate   ├─┤
 *     read body        ├───┤
 *     transcode            ├───────┤
 *     block                       ├──────────────────────┤   until its requests may be acknowledged
 *       INSERT otel_traces                  ├───────────┤    with the disk buffer after that; each attempt is one
 */
export class RequestTrace {
  private readonly tracer: SpanStarter;
  private readonly span: Span;
  private readonly clock: TraceClock;
  private current: Span | undefined;

  constructor(tracer: SpanStarter, span: Span, clock: TraceClock) {
    this.tracer = tracer;
    this.span = span;
    this.clock = clock;
  }

  /** Ends the span of the current step, and starts that of the next one. */
  step(name: 'authenticate' | 'read body' | 'transcode'): void {
    const now = this.clock.now();
    this.current?.end(now);
    this.current = this.tracer.start(name, this.span, { startTime: now });
  }

  /** Ends the last step, and sets the attributes of the request. */
  transcoded({ targetId, encoding, bodyBytes, spans }: TranscodedRequest): void {
    this.current?.end(this.clock.now());
    this.current = undefined;
    this.span.setAttributes({
      'hive_collector.target_id': targetId,
      'hive_collector.encoding': encoding,
      'hive_collector.body_bytes': bodyBytes,
      'hive_collector.spans': spans,
    });
  }

  /** Links the request with the span of its block. @param block that span, if another request of the block is traced @returns it */
  join(block: BlockTrace | undefined): BlockTrace {
    if (block === undefined) return BlockTrace.start(this.tracer, this.span, this.clock);
    block.add(this.span);
    return block;
  }

  /** Ends the span. @param status the status of the answer; undefined if the connection closed before it */
  answered(attribute: 'http.response.status_code' | 'rpc.grpc.status_code', status: number | undefined): void {
    const now = this.clock.now();
    this.current?.end(now);
    if (status !== undefined) this.span.setAttribute(attribute, status);
    const error = status === undefined ? 'sender_left' : isOurs(attribute, status) ? String(status) : undefined;
    if (error !== undefined) this.span.setAttribute('error.type', error).setStatus({ code: SpanStatusCode.ERROR });
    this.span.end(now);
  }
}

/** gRPC's DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and the like. */
const SERVER_ERRORS: ReadonlySet<number> = new Set([2, 4, 12, 13, 14, 15]);

/** Whether a status is an error of the server. Client errors do not change the span's status (semantic conventions). */
function isOurs(attribute: string, status: number): boolean {
  return attribute === 'http.response.status_code' ? status >= 500 : SERVER_ERRORS.has(status);
}
