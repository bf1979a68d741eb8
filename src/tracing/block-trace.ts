import { type Attributes, type Span, SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { InsertOutcome } from '../storage/insert.ts';
import type { Tracer } from './tracer.ts';

/** A block that holds a request that is traced. */
export class BlockTrace {
  private readonly tracer: Tracer;
  private readonly span: Span;

  constructor(tracer: Tracer, firstRequest: Span) {
    this.tracer = tracer;
    this.span = tracer.start('block', firstRequest);
  }

  /** A further request is in it: linked both ways, as each lies in a trace of its own. */
  add(request: Span): void {
    this.span.addLink({ context: request.spanContext() });
    request.addLink({ context: this.span.spanContext() });
  }

  /** It is sealed and in the queue. @param durable settles when its requests are answered */
  queued(rows: number, bytes: number, durable: Promise<void>): void {
    this.span.setAttributes({ 'hive_collector.spans': rows, 'hive_collector.bytes': bytes }).addEvent('queued');
    durable.then(
      () => this.span.end(),
      () => this.span.setStatus({ code: SpanStatusCode.ERROR }).end(),
    );
  }

  /** An attempt to insert it, and the blocks beside it. */
  startInsert(others: readonly BlockTrace[], server: string, attributes: Attributes): InsertTrace {
    const { table } = this.tracer;
    const { hostname, port, protocol } = new URL(server);
    return new InsertTrace(
      this.tracer.start(`INSERT ${String(table['db.collection.name'])}`, this.span, {
        kind: SpanKind.CLIENT,
        links: others.map(({ span }) => ({ context: span.spanContext() })),
        attributes: { ...table, ...attributes, 'server.address': hostname, 'server.port': Number(port || (protocol === 'https:' ? 443 : 80)) },
      }),
    );
  }
}

/** One attempt to insert. */
export class InsertTrace {
  private readonly span: Span;

  constructor(span: Span) {
    this.span = span;
  }

  /** ClickHouse's words stay out of it: they may quote values of senders. */
  end(outcome: InsertOutcome): void {
    if (outcome.status !== 'inserted') {
      const { code } = outcome.error;
      this.span.setAttribute('error.type', code).setStatus({ code: SpanStatusCode.ERROR });
      if (/^\d+$/.test(code)) this.span.setAttribute('db.response.status_code', code);
    }
    this.span.end();
  }
}
