import { randomBytes } from 'node:crypto';
import { encodeRequest, type KeyValue, type Span } from '../oracle/otlp-request.ts';

/** Spans that a table takes, or does not, for one thing that they hold. */
export interface MarkedSpans {
  readonly body: Buffer;
  /** In hex, in order. */
  readonly spanIds: readonly string[];
}

export type Change = (span: Span) => void;

/** Text that is not UTF-8, in bytes, as protobufjs writes it: a string field takes none. */
export const NOT_UTF8 = '\u0001bad\u0001';
const NOT_UTF8_BYTES = Buffer.from([0xff, 0x62, 0x61, 0x64, 0xc3]);

/** One request in Protobuf with a span for each of `changes`, which may change it. NOT_UTF8 in any text becomes bytes that are none. */
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

export function text(key: string, stringValue: string): KeyValue {
  return { key, value: { stringValue } };
}

/** The attribute by which the tests' constraint knows a span. */
export const FORBIDDEN: Change = (span) => void span.attributes.push(text('forbidden', 'yes'));
export const FORBIDS = "ADD CONSTRAINT allowed CHECK SpanAttributes['forbidden'] != 'yes'";

export const IN_ATTRIBUTE: Change = (span) => void span.attributes.push(text('text', NOT_UTF8));

/** The collector's table with attributes as JSON. */
export function withJsonAttributes(createTable: string): string {
  return createTable
    .replace(/^\s*INDEX .*(?:SpanAttributes|ResourceAttributes).*\n/gm, '')
    .replace(/`(SpanAttributes|ResourceAttributes)` Map\(.*?\)(?= CODEC)/g, '`$1` JSON')
    .replace(/`(Events.Attributes|Links.Attributes)` Array\(Map\(.*?\)\)(?= CODEC)/g, '`$1` Array(JSON)');
}
