import { type Attributes, type Span, type SpanContext, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { SpanStarter } from './span-starter.ts';
import { TraceClock } from './trace-clock.ts';

/** A block's span, as another thread needs it to start spans below it. */
export interface BlockSpan {
  readonly context: SpanContext;
  /** `TraceClock.offsetMs` of the trace. */
  readonly offsetMs: number;
}

/** The span of a block that holds at least one traced request. */
export class BlockTrace {
  private readonly tracer: SpanStarter;
  private readonly span: Span;
  /** The clock of its first request's trace. */
  private readonly clock: TraceClock;

  private constructor(tracer: SpanStarter, span: Span, clock: TraceClock) {
    this.tracer = tracer;
    this.span = span;
    this.clock = clock;
  }

  /** Starts the span. @param firstRequest the span of the first request of the block that is traced */
  static start(tracer: SpanStarter, firstRequest: Span, clock: TraceClock): BlockTrace {
    return new BlockTrace(tracer, tracer.start('block', firstRequest, { startTime: clock.now() }), clock);
  }

  /** The trace of a block from another thread, which has started the span and ends it. */
  static of(tracer: SpanStarter, { context, offsetMs }: BlockSpan): BlockTrace {
    return new BlockTrace(tracer, trace.wrapSpanContext(context), new TraceClock(offsetMs));
  }

  /** What another thread needs to start child spans. */
  get blockSpan(): BlockSpan {
    const { traceId, spanId, traceFlags } = this.span.spanContext();
    return { context: { traceId, spanId, traceFlags }, offsetMs: this.clock.offsetMs };
  }

  /** Links a further request of the block: in both directions, as each has its own trace. */
  add(request: Span): void {
    this.span.addLink({ context: request.spanContext() });
    request.addLink({ context: this.span.spanContext() });
  }

  /** Notes that the block is in the queue. @param durable settles when its requests are answered, which ends the span */
  queued(rows: number, bytes: number, durable: Promise<void>): void {
    this.span.setAttributes({ 'hive_collector.spans': rows, 'hive_collector.bytes': bytes }).addEvent('queued', this.clock.now());
    durable.then(
      () => this.span.end(this.clock.now()),
      () => this.span.setStatus({ code: SpanStatusCode.ERROR }).end(this.clock.now()),
    );
  }

  /**
   * Starts the span of an attempt to insert this block.
   * @param others the other traced blocks of the insert
   * @param server the server's URL
   */
  startInsert(others: readonly BlockTrace[], server: string, attributes: Attributes): InsertTrace {
    const { table } = this.tracer;
    const { hostname, port, protocol } = new URL(server);
    return new InsertTrace(
      this.tracer.start(`INSERT ${String(table['db.collection.name'])}`, this.span, {
        kind: SpanKind.CLIENT,
        startTime: this.clock.now(),
        links: others.map(({ span }) => ({ context: span.spanContext() })),
        attributes: {
          ...table,
          ...attributes,
          'server.address': hostname,
          'server.port': Number(port || (protocol === 'https:' ? 443 : 80)),
        },
      }),
      this.clock,
    );
  }
}

/** The span of one attempt to insert. */
export class InsertTrace {
  private readonly span: Span;
  private readonly clock: TraceClock;

  constructor(span: Span, clock: TraceClock) {
    this.span = span;
    this.clock = clock;
  }

  /** Ends the span. @param errorCode undefined on success. Not the message: ClickHouse's may quote values of senders */
  end(errorCode: string | undefined): void {
    if (errorCode !== undefined) {
      this.span.setAttribute('error.type', errorCode).setStatus({ code: SpanStatusCode.ERROR });
      if (/^\d+$/.test(errorCode)) this.span.setAttribute('db.response.status_code', errorCode);
    }
    this.span.end(this.clock.now());
  }
}
