import { zstdDecompressSync } from 'node:zlib';
import { dialects } from '../transcode/columns/dialect.ts';
import { type NativeBlock, type NativeValue, readNativeBlocks } from './native-reader.ts';

/*
 * Converts rows back to OTLP/JSON. Rows have attributes as text, so every attribute is a stringValue. Rows lack schema URLs, scope
 * attributes, flags, and the counts of what the client dropped, so these are missing.
 */

type Pairs = readonly (readonly [string, string])[];

interface KeyValue {
  readonly key: string;
  readonly value: { readonly stringValue: string };
}

interface Row {
  readonly resource: Pairs;
  readonly scope: { readonly name: string; readonly version: string };
  readonly span: object;
}

interface ScopeSpans {
  readonly scope: Row['scope'];
  readonly spans: object[];
}

/** Converts the blocks in a zstd frame to OTLP/JSON, one request per line. @param onUnreadable called when the rest can't be read */
export function* otlpLines(frame: Uint8Array, onUnreadable: (reason: string) => void): Generator<string> {
  try {
    for (const block of readNativeBlocks(zstdDecompressSync(frame))) yield `${JSON.stringify(otlpRequest(block))}\n`;
  } catch (error) {
    onUnreadable((error as Error).message);
  }
}

/** Converts a block to one ExportTraceServiceRequest. Adjacent spans of the same resource and scope are grouped. */
function otlpRequest(block: NativeBlock): { resourceSpans: readonly object[] } {
  const resourceSpans: { resource: { attributes: KeyValue[] }; scopeSpans: ScopeSpans[] }[] = [];
  let resourceText: string | undefined;
  let scopeText: string | undefined;
  for (let index = 0; index < block.rows; index++) {
    const { resource, scope, span } = rowOf(block, index);
    const thisResource = JSON.stringify(resource);
    if (thisResource !== resourceText) {
      resourceSpans.push({ resource: { attributes: attributes(resource) }, scopeSpans: [] });
      resourceText = thisResource;
      scopeText = undefined;
    }
    const { scopeSpans } = resourceSpans.at(-1)!;
    const thisScope = JSON.stringify(scope);
    if (thisScope !== scopeText) scopeSpans.push({ scope, spans: [] });
    scopeText = thisScope;
    scopeSpans.at(-1)!.spans.push(span);
  }
  return { resourceSpans };
}

function rowOf({ columns }: NativeBlock, index: number): Row {
  const value = (name: string): NativeValue => columns.get(name)?.[index] ?? '';
  const text = (name: string) => value(name) as string;
  const list = (name: string) => value(name) as readonly NativeValue[];
  const maps = (name: string) => value(name) as unknown as readonly Pairs[];
  const start = value('Timestamp') as bigint;
  const end = BigInt.asUintN(64, start + (value('Duration') as bigint));
  const eventNames = list('Events.Name');
  const eventAttributes = maps('Events.Attributes');
  const linkSpanIds = list('Links.SpanId');
  const linkTraceStates = list('Links.TraceState');
  const linkAttributes = maps('Links.Attributes');
  return {
    resource: value('ResourceAttributes') as unknown as Pairs,
    scope: { name: text('ScopeName'), version: text('ScopeVersion') },
    span: {
      traceId: text('TraceId'),
      spanId: text('SpanId'),
      parentSpanId: text('ParentSpanId'),
      traceState: text('TraceState'),
      name: text('SpanName'),
      kind: enumNumber('spanKinds', text('SpanKind')),
      startTimeUnixNano: String(start),
      endTimeUnixNano: String(end),
      attributes: attributes(value('SpanAttributes') as unknown as Pairs),
      events: list('Events.Timestamp').map((time, i) => ({
        timeUnixNano: `${time as bigint}`,
        name: eventNames[i],
        attributes: attributes(eventAttributes[i]),
      })),
      links: list('Links.TraceId').map((traceId, i) => ({
        traceId,
        spanId: linkSpanIds[i],
        traceState: linkTraceStates[i],
        attributes: attributes(linkAttributes[i]),
      })),
      status: { code: enumNumber('statusCodes', text('StatusCode')), message: text('StatusMessage') },
    },
  };
}

function attributes(pairs: Pairs): KeyValue[] {
  return pairs.map(([key, stringValue]) => ({ key, value: { stringValue } }));
}

/** The number of an enum's name, in either dialect. Dialect otelcol writes '' for an unknown number, which becomes an unknown one again. */
function enumNumber(names: 'spanKinds' | 'statusCodes', name: string): number {
  const numbers = Object.values(dialects).map((dialect) => dialect[names].values.indexOf(name));
  return Math.max(0, ...numbers);
}
