import { randomBytes } from 'node:crypto';
import { encodeRequest, type KeyValue, type Span } from '../oracle/otlp-request.ts';

/** A request in which some spans have a value that ClickHouse refuses. */
export interface MarkedSpans {
  readonly body: Buffer;
  /** In hex, in the order of the spans. */
  readonly spanIds: readonly string[];
}

/** Changes a valid span. */
export type Change = (span: Span) => void;

/** A placeholder for text that is not UTF-8, which protobufjs does not write. */
export const NOT_UTF8 = '\u0001bad\u0001';
const NOT_UTF8_BYTES = Buffer.from([0xff, 0x62, 0x61, 0x64, 0xc3]);

/** A Protobuf request with a span for each element, changed by it. In all texts, NOT_UTF8 becomes bytes that are not UTF-8. */
export function markedSpans(changes: readonly (Change | undefined)[]): MarkedSpans {
  const startTimeUnixNano = BigInt(Date.now()) * 1_000_000n;
  const spans = changes.map((change, index) => {
    const span: Span = {
      traceId: randomBytes(16),
      spanId: randomBytes(8),
      name: `span ${index}`,
      startTimeUnixNano,
      endTimeUnixNano: startTimeUnixNano + 1000n,
      attributes: [text('key', `value ${index}`)],
      events: [{ name: 'event', timeUnixNano: startTimeUnixNano, attributes: [text('in', 'an event')] }],
      links: [{ traceId: randomBytes(16), spanId: randomBytes(8), attributes: [] }],
    };
    change?.(span);
    return span;
  });
  const body = Buffer.from(
    encodeRequest({
      resourceSpans: [
        { resource: { attributes: [text('service.name', 'shop')] }, scopeSpans: [{ scope: { name: 'scope', attributes: [] }, spans }] },
      ],
    }),
  );
  for (let at = body.indexOf(NOT_UTF8); at >= 0; at = body.indexOf(NOT_UTF8, at)) NOT_UTF8_BYTES.copy(body, at);
  return { body, spanIds: spans.map(({ spanId }) => spanId!.toString('hex')) };
}

/** An attribute of text. */
export function text(key: string, stringValue: string): KeyValue {
  return { key, value: { stringValue } };
}

/** Adds the attribute that the constraint ADD_CONSTRAINT refuses. */
export const FORBIDDEN: Change = (span) => void span.attributes.push(text('forbidden', 'yes'));
/** The constraint, for ALTER TABLE. */
export const ADD_CONSTRAINT = "ADD CONSTRAINT allowed CHECK SpanAttributes['forbidden'] != 'yes'";

/** Adds an attribute whose value is not UTF-8. */
export const NOT_UTF8_ATTRIBUTE: Change = (span) => void span.attributes.push(text('text', NOT_UTF8));

/** Changes the statement that creates the collector's table: attributes are of type JSON, and have no indexes. */
export function withJsonAttributes(createTable: string): string {
  return createTable
    .replace(/^\s*INDEX .*(?:SpanAttributes|ResourceAttributes).*\n/gm, '')
    .replace(/`(SpanAttributes|ResourceAttributes)` Map\(.*?\)(?= CODEC)/g, '`$1` JSON')
    .replace(/`(Events.Attributes|Links.Attributes)` Array\(Map\(.*?\)\)(?= CODEC)/g, '`$1` Array(JSON)');
}
