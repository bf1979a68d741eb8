import { type Span, SpanStatusCode } from '@opentelemetry/api';
import type { Encoding } from '../otlp/encoding.ts';
import { BlockTrace } from './block-trace.ts';
import type { SpanStarter } from './span-starter.ts';
import type { TraceClock } from './trace-clock.ts';

/** What is known of a request once it is transcoded. */
export interface TakenRequest {
  readonly targetId: string;
  readonly encoding: Encoding;
  readonly bodyBytes: number;
  readonly spans: number;
}

/*
 * A trace, from the request to ClickHouse. A block holds many requests, and an insert many blocks: each has the first
 * that is traced as its parent, and links to the others.
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

  /** The next step begins. The one before has ended. */
  step(name: 'authenticate' | 'read body' | 'transcode'): void {
    const now = this.clock.now();
    this.current?.end(now);
    this.current = this.tracer.start(name, this.span, { startTime: now });
  }

  /** The last step has ended. */
  taken({ targetId, encoding, bodyBytes, spans }: TakenRequest): void {
    this.current?.end(this.clock.now());
    this.current = undefined;
    this.span.setAttributes({
      'hive_collector.target_id': targetId,
      'hive_collector.encoding': encoding,
      'hive_collector.body_bytes': bodyBytes,
      'hive_collector.spans': spans,
    });
  }

  /** Its spans are in a block. @param block of other requests that are traced */
  join(block: BlockTrace | undefined): BlockTrace {
    if (block === undefined) return BlockTrace.start(this.tracer, this.span, this.clock);
    block.add(this.span);
    return block;
  }

  /** The request has its answer. @param status of the answer; undefined if the connection closed before */
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

/** Whether a status is an error of the server; one of the sender leaves the span's status alone (semantic conventions). */
function isOurs(attribute: string, status: number): boolean {
  return attribute === 'http.response.status_code' ? status >= 500 : SERVER_ERRORS.has(status);
}
