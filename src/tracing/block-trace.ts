import { type Attributes, type Span, SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { SpanStarter } from './span-starter.ts';
import type { TraceClock } from './trace-clock.ts';

/** A block that holds a request that is traced. */
export class BlockTrace {
  private readonly tracer: SpanStarter;
  private readonly span: Span;
  /** That of its first request. */
  private readonly clock: TraceClock;

  constructor(tracer: SpanStarter, firstRequest: Span, clock: TraceClock) {
    this.tracer = tracer;
    this.span = tracer.start('block', firstRequest, { startTime: clock.now() });
    this.clock = clock;
  }

  /** A further request is in it: linked both ways, as each lies in a trace of its own. */
  add(request: Span): void {
    this.span.addLink({ context: request.spanContext() });
    request.addLink({ context: this.span.spanContext() });
  }

  /** It is sealed and in the queue. @param durable settles when its requests are answered */
  queued(rows: number, bytes: number, durable: Promise<void>): void {
    this.span.setAttributes({ 'hive_collector.spans': rows, 'hive_collector.bytes': bytes }).addEvent('queued', this.clock.now());
    durable.then(
      () => this.span.end(this.clock.now()),
      () => this.span.setStatus({ code: SpanStatusCode.ERROR }).end(this.clock.now()),
    );
  }

  /** An attempt to insert it, and the blocks beside it. */
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

/** One attempt to insert. */
export class InsertTrace {
  private readonly span: Span;
  private readonly clock: TraceClock;

  constructor(span: Span, clock: TraceClock) {
    this.span = span;
    this.clock = clock;
  }

  /** @param errorCode why it failed, undefined if it has not: the code alone, as ClickHouse's message may quote senders' values */
  end(errorCode: string | undefined): void {
    if (errorCode !== undefined) {
      this.span.setAttribute('error.type', errorCode).setStatus({ code: SpanStatusCode.ERROR });
      if (/^\d+$/.test(errorCode)) this.span.setAttribute('db.response.status_code', errorCode);
    }
    this.span.end(this.clock.now());
  }
}
