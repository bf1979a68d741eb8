import type { Attributes, Span, SpanOptions } from '@opentelemetry/api';

/** Starts spans below that of a request. */
export interface SpanStarter {
  /** The attributes that name the database and the table of inserts. */
  readonly table: Attributes;
  /** Starts a child span of `parent`. */
  start(name: string, parent: Span, options: SpanOptions): Span;
}
