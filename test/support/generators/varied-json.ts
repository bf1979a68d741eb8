import type {
  AnyValue,
  KeyValue,
  Link,
  OtlpRequest,
  Resource,
  ResourceSpans,
  Scope,
  ScopeSpans,
  Span,
  SpanEvent,
  Status,
} from '../oracle/otlp-request.ts';
import { JsonTokens } from './json-tokens.ts';
import type { Random } from './random.ts';

/**
 * A request as OTLP/JSON in one of the many ways a sender may write it: keys in any order, lowerCamelCase or
 * snake_case, white space, escapes, unknown members, null for absent values, 64-bit integers as text or as number,
 * enums by number or name (in any case, with their prefix or without), ids in either case, base64 in either alphabet with or
 * without padding.
 */
export function variedJson(request: OtlpRequest, random: Random): Buffer {
  return Buffer.from(new JsonWriter(random).request(request));
}

const SPAN_KINDS = [
  'SPAN_KIND_UNSPECIFIED',
  'SPAN_KIND_INTERNAL',
  'SPAN_KIND_SERVER',
  'SPAN_KIND_CLIENT',
  'SPAN_KIND_PRODUCER',
  'SPAN_KIND_CONSUMER',
];
const STATUS_CODES = ['STATUS_CODE_UNSET', 'STATUS_CODE_OK', 'STATUS_CODE_ERROR'];
const VALUE_MEMBERS = ['stringValue', 'boolValue', 'intValue', 'doubleValue', 'arrayValue', 'kvlistValue', 'bytesValue'];
const NO_ID = Buffer.alloc(0);

/** One member, or none for a field that is left out. */
type Members = [name: string, json: string][];

class JsonWriter {
  readonly #random: Random;
  readonly #tokens: JsonTokens;

  constructor(random: Random) {
    this.#random = random;
    this.#tokens = new JsonTokens(random);
  }

  request({ resourceSpans }: OtlpRequest): string {
    return this.#tokens.document(this.#tokens.object(this.#list('resourceSpans', resourceSpans, (each) => this.#resourceSpans(each))));
  }

  #resourceSpans({ resource, scopeSpans, schemaUrl }: ResourceSpans): string {
    return this.#tokens.object([
      ...this.#message('resource', resource, (message) => this.#resource(message)),
      ...this.#scopes(scopeSpans),
      ...this.#text('schemaUrl', schemaUrl),
    ]);
  }

  #resource({ attributes, droppedAttributesCount }: Resource): string {
    return this.#tokens.object([...this.#attributes(attributes), ...this.#uint32('droppedAttributesCount', droppedAttributesCount)]);
  }

  /** They were called instrumentationLibrarySpans before OTLP 0.15. */
  #scopes(scopeSpans: ScopeSpans[]): Members {
    if (this.#tokens.odd())
      return this.#list('instrumentationLibrarySpans', scopeSpans, (each) => this.#scopeSpans(each, 'instrumentationLibrary'));
    return this.#list('scopeSpans', scopeSpans, (each) => this.#scopeSpans(each, 'scope'));
  }

  #scopeSpans({ scope, spans, schemaUrl }: ScopeSpans, scopeName: 'scope' | 'instrumentationLibrary'): string {
    return this.#tokens.object([
      ...this.#message(scopeName, scope, (message) => this.#scope(message)),
      ...this.#list('spans', spans, (span) => this.#span(span)),
      ...this.#text('schemaUrl', schemaUrl),
    ]);
  }

  #scope({ name, version, attributes, droppedAttributesCount }: Scope): string {
    return this.#tokens.object([
      ...this.#text('name', name),
      ...this.#text('version', version),
      ...this.#attributes(attributes),
      ...this.#uint32('droppedAttributesCount', droppedAttributesCount),
    ]);
  }

  #span(span: Span): string {
    return this.#tokens.object([
      ...this.#id('traceId', span.traceId),
      ...this.#id('spanId', span.spanId),
      ...this.#text('traceState', span.traceState),
      ...this.#id('parentSpanId', span.parentSpanId),
      ...this.#text('name', span.name),
      ...this.#enum('kind', span.kind, SPAN_KINDS),
      ...this.#time('startTimeUnixNano', span.startTimeUnixNano),
      ...this.#time('endTimeUnixNano', span.endTimeUnixNano),
      ...this.#attributes(span.attributes),
      ...this.#uint32('droppedAttributesCount', span.droppedAttributesCount),
      ...this.#list('events', span.events, (event) => this.#event(event)),
      ...this.#uint32('droppedEventsCount', span.droppedEventsCount),
      ...this.#list('links', span.links, (link) => this.#link(link)),
      ...this.#uint32('droppedLinksCount', span.droppedLinksCount),
      ...this.#message('status', span.status, (status) => this.#status(status)),
      ...this.#uint32('flags', span.flags),
    ]);
  }

  #event({ timeUnixNano, name, attributes, droppedAttributesCount }: SpanEvent): string {
    return this.#tokens.object([
      ...this.#time('timeUnixNano', timeUnixNano),
      ...this.#text('name', name),
      ...this.#attributes(attributes),
      ...this.#uint32('droppedAttributesCount', droppedAttributesCount),
    ]);
  }

  #link({ traceId, spanId, traceState, attributes, droppedAttributesCount, flags }: Link): string {
    return this.#tokens.object([
      ...this.#id('traceId', traceId),
      ...this.#id('spanId', spanId),
      ...this.#text('traceState', traceState),
      ...this.#attributes(attributes),
      ...this.#uint32('droppedAttributesCount', droppedAttributesCount),
      ...this.#uint32('flags', flags),
    ]);
  }

  #status({ message, code }: Status): string {
    return this.#tokens.object([...this.#text('message', message), ...this.#enum('code', code, STATUS_CODES)]);
  }

  #attributes(attributes: KeyValue[]): Members {
    return this.#list('attributes', attributes, (keyValue) => this.#keyValue(keyValue));
  }

  #keyValue({ key, value }: KeyValue): string {
    return this.#tokens.object([...this.#text('key', key), ...this.#message('value', value, (message) => this.#value(message))]);
  }

  /** A null member of the oneof counts as absent, so it may be written next to the one that is set. */
  #value(value: AnyValue): string {
    const members = this.#member(value);
    const nulls = VALUE_MEMBERS.filter((name) => members[0]?.[0] !== name && this.#tokens.odd());
    return this.#tokens.object([...members, ...nulls.map((name): Members[0] => [name, 'null'])]);
  }

  #member(value: AnyValue): Members {
    const tokens = this.#tokens;
    if (value.stringValue !== undefined) return [['stringValue', tokens.string(value.stringValue)]];
    if (value.boolValue !== undefined) return [['boolValue', String(value.boolValue)]];
    if (value.intValue !== undefined) return [['intValue', tokens.integer(value.intValue)]];
    if (value.doubleValue !== undefined) return [['doubleValue', tokens.double(value.doubleValue)]];
    if (value.arrayValue !== undefined)
      return [['arrayValue', tokens.object(this.#list('values', value.arrayValue.values, (each) => this.#value(each)))]];
    if (value.kvlistValue !== undefined)
      return [['kvlistValue', tokens.object(this.#list('values', value.kvlistValue.values, (each) => this.#keyValue(each)))]];
    return value.bytesValue === undefined ? [] : [['bytesValue', tokens.base64(value.bytesValue)]];
  }

  #text(name: string, value: string | undefined): Members {
    return this.#scalar(name, value, '', (text) => this.#tokens.string(text));
  }

  #id(name: string, value: Buffer | undefined): Members {
    return this.#scalar(name, value, NO_ID, (id) => this.#tokens.hex(id));
  }

  #time(name: string, value: bigint | undefined): Members {
    return this.#scalar(name, value, 0n, (time) => this.#tokens.integer(time));
  }

  #uint32(name: string, value: number | undefined): Members {
    return this.#scalar(name, value, 0, (count) => this.#tokens.uint32(count));
  }

  #enum(name: string, value: number | undefined, names: string[]): Members {
    return this.#scalar(name, value, 0, (code) => this.#tokens.enum(code, names));
  }

  /** A scalar. An absent one is sometimes written as null or as its default value. */
  #scalar<T>(name: string, value: T | undefined, none: T, write: (value: T) => string): Members {
    if (value !== undefined) return [[name, write(value)]];
    if (!this.#random.chance(0.3)) return [];
    return [[name, this.#tokens.odd() ? 'null' : write(none)]];
  }

  #message<T>(name: string, message: T | undefined, write: (message: T) => string): Members {
    if (message !== undefined) return [[name, write(message)]];
    return this.#tokens.odd() ? [[name, 'null']] : [];
  }

  #list<T>(name: string, elements: T[], write: (element: T) => string): Members {
    if (elements.length > 0 || this.#random.chance(0.7)) return [[name, this.#tokens.array(elements.map(write))]];
    return this.#tokens.odd() ? [[name, 'null']] : [];
  }
}
