import type { Attributes, Span, SpanOptions } from '@opentelemetry/api';

/** Starts the spans of what happens within a request. */
export interface SpanStarter {
  /** Database and table of inserts. */
  readonly table: Attributes;
  /** A span of its own below `parent`. */
  start(name: string, parent: Span, options: SpanOptions): Span;
}
