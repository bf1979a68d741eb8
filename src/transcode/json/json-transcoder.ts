import { isUtf8 } from 'node:buffer';
import { AttributeValue } from '../bytes/attribute-value.ts';
import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { isLowerHex, writeLowerHexString } from '../bytes/hex.ts';
import { MalformedRequest } from '../bytes/malformed-request.ts';
import { sameBytes } from '../bytes/same-bytes.ts';
import { TextPattern } from '../bytes/text-pattern.ts';
import type { LowCardinalityColumn } from '../columns/low-cardinality-column.ts';
import type { RejectedSpans, RejectReason } from '../columns/rejection.ts';
import type { SpanColumns } from '../columns/span-columns.ts';
import { KnownAttributes } from '../known/known-attributes.ts';
import { KnownResources } from '../known/known-resources.ts';
import { KnownSpanEnds } from '../known/known-span-ends.ts';
import { otherJson } from '../other-signals.ts';
import { BRACE_CLOSE, BRACKET, COMMA, JsonCursor, LETTER_N, QUOTE, unescape, ZERO } from './json-cursor.ts';
import { eraseSuperseded } from './json-duplicates.ts';
import { END, type JsonFieldNames } from './json-field-names.ts';
import { EVENT, LIBRARY_SPANS, LINK, REQUEST, RESOURCE, RESOURCE_SPANS, SCOPE, SCOPE_SPANS, SPAN, STATUS } from './json-fields.ts';
import { lastUint64, readUint64 } from './json-number.ts';
import { KEY_VALUE, readAnyValue, readString } from './json-value.ts';

const PLAIN_KEY = new TextPattern('{"key":"');
const PLAIN_VALUE = new TextPattern(',"value":{"stringValue":"');
const TWO_BRACES = 0x7d7d;

/** What the names of an enum's values have in common, and the rest of them, by number. */
interface EnumText {
  readonly prefix: string;
  readonly names: readonly string[];
}

const SPAN_KINDS: EnumText = { prefix: 'SPAN_KIND_', names: ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'] };
const STATUS_CODES: EnumText = { prefix: 'STATUS_CODE_', names: ['UNSET', 'OK', 'ERROR'] };
/** Stands for a name that is none of them. */
const UNKNOWN_NAME = -0x3fff_ffff;
const TRACE_ID_DIGITS = 32;
/** '0000' */
const FOUR_ZEROS = 0x30303030;
const SPAN_ID_DIGITS = 16;

/** A list, or the resource, comes twice in one object. The last one counts, but the first is in the columns already. */
class DuplicateField extends Error {}

/** A piece of the request's text, or of its unescaped form. */
class Text {
  source: ByteBuffer;
  start = 0;
  length = 0;
  isHex = false;
  private readonly unescaped = new ByteBuffer(256);

  constructor() {
    this.source = this.unescaped;
  }

  clear(): void {
    this.length = 0;
    this.isHex = false;
  }

  set(source: ByteBuffer, start: number, length: number): void {
    this.source = source;
    this.start = start;
    this.length = length;
  }

  /** Takes what is known to be lower-case hex digits. */
  setHex(source: ByteBuffer, start: number, digits: number): void {
    this.set(source, start, digits);
    this.isHex = true;
  }

  /** Gives back what a large text took. */
  release(): void {
    this.clear();
    this.unescaped.reset();
  }

  /** Takes the string at the cursor; null is ''. */
  read(cursor: JsonCursor): void {
    this.clear();
    if (cursor.isNull()) return;
    readString(cursor);
    if (cursor.escaped) {
      this.unescaped.reset();
      unescape(this.unescaped, cursor.source, cursor.start, cursor.length);
      this.set(this.unescaped, 0, this.unescaped.length);
    } else {
      this.set(cursor.source, cursor.start, cursor.length);
    }
  }
}

/** JSON text → span columns, in the OTLP/JSON encoding: ids in hex, the rest as protobuf's JSON mapping. Keys come in any order. */
export class JsonTranscoder {
  private readonly columns: SpanColumns;
  private readonly cursor: JsonCursor;
  private readonly value = new AttributeValue();
  private readonly key = new Text();
  private readonly traceId = new Text();
  private readonly spanId = new Text();
  private readonly parentSpanId = new Text();
  private readonly traceState = new Text();
  private readonly name = new Text();
  private readonly statusMessage = new Text();
  private readonly scopeName = new Text();
  private readonly scopeVersion = new Text();
  private readonly eventName = new Text();
  private readonly linkTraceId = new Text();
  private readonly linkSpanId = new Text();
  private readonly linkTraceState = new Text();
  private readonly texts = [
    this.key,
    this.traceId,
    this.spanId,
    this.parentSpanId,
    this.traceState,
    this.name,
    this.statusMessage,
    this.scopeName,
    this.scopeVersion,
    this.eventName,
    this.linkTraceId,
    this.linkSpanId,
    this.linkTraceState,
  ];
  private readonly resources = new KnownResources();
  private readonly attributes = new KnownAttributes();
  private readonly tails = new KnownSpanEnds();
  private lastTraceId = -1;
  /** Whether the attribute read last is written as `plainAttribute` says. */
  private plain = false;
  private statusCode = 0;
  private spanNumber = 0;
  private skipped: RejectedSpans = new Map();
  private rejected: Map<number, RejectReason> | undefined;
  private readonly maxSpanBytes: number;

  constructor(columns: SpanColumns, maxSpanBytes: number) {
    this.columns = columns;
    this.maxSpanBytes = maxSpanBytes;
    this.cursor = new JsonCursor(this.value.scratch);
  }

  /**
   * ExportTraceServiceRequest: 1 resourceSpans: ResourceSpans[]
   * @param begin where the request begins in `body`, at whose end it ends
   * @param skipped spans to leave out
   * @returns spans that are too large or have malformed ids, if there are any: they must be left out, in a second pass
   * @throws MalformedRequest
   */
  transcode(body: ByteBuffer, begin: number, skipped: RejectedSpans): RejectedSpans | undefined {
    if (!isUtf8(body.bytes.subarray(begin, body.length))) throw new MalformedRequest('the JSON text is not UTF-8');
    this.cursor.begin = begin;
    const start = textStart(body, begin);
    body.zeroSlack();
    try {
      return this.request(body, start, skipped);
    } catch (error) {
      if (!(error instanceof DuplicateField)) throw error;
    }
    this.columns.rollback();
    this.forget();
    eraseSuperseded(body, start);
    return this.request(body, start, skipped);
  }

  /**
   * Says what a request is that is none for traces, if it looks like it.
   * @param mayBeTraces whether it is one for traces if it has resourceSpans
   */
  otherSignal(body: ByteBuffer, begin: number, mayBeTraces: boolean): string | undefined {
    body.zeroSlack();
    return otherJson(body, textStart(body, begin), mayBeTraces);
  }

  /** Forgets what was learned from earlier requests: their bytes, or what they put into the columns, are not there any more. */
  forget(): void {
    this.resources.reset();
    this.attributes.reset();
    this.tails.reset();
  }

  /** Gives back the memory that a large request took. */
  release(): void {
    this.value.release();
    for (const text of this.texts) text.release();
  }

  private request(body: ByteBuffer, start: number, skipped: RejectedSpans): RejectedSpans | undefined {
    const { cursor } = this;
    cursor.source = body;
    cursor.at = start;
    this.spanNumber = 0;
    this.skipped = skipped;
    this.rejected = undefined;
    this.lastTraceId = -1;
    let seen = false;
    for (let field = REQUEST.first(cursor); field !== END; field = REQUEST.next(cursor)) {
      if (field === 1) {
        seen = markSeen(seen);
        if (cursor.openArray())
          do this.resourceSpans();
          while (cursor.more(BRACKET));
      } else {
        cursor.skip();
      }
    }
    cursor.peek();
    if (cursor.at !== body.length) throw cursor.unexpected();
    return this.rejected;
  }

  /** ResourceSpans: 1 resource: Resource, 2 scopeSpans: ScopeSpans[], 1000 instrumentationLibrarySpans: the same by its name before OTLP 0.15 */
  private resourceSpans(): void {
    const { cursor, columns } = this;
    let resourceSeen = false;
    let scopesSeen = false;
    let librariesSeen = false;
    columns.beginResource();
    for (let field = RESOURCE_SPANS.first(cursor); field !== END; field = RESOURCE_SPANS.next(cursor)) {
      if (field === 1) {
        resourceSeen = markSeen(resourceSeen);
        this.resource();
      } else if (field === 2) {
        scopesSeen = markSeen(scopesSeen);
        if (cursor.openArray())
          do this.scopeSpans(SCOPE_SPANS);
          while (cursor.more(BRACKET));
      } else if (field === 1000) {
        librariesSeen = markSeen(librariesSeen);
        if (cursor.openArray())
          do this.scopeSpans(LIBRARY_SPANS);
          while (cursor.more(BRACKET));
      } else {
        cursor.skip();
      }
    }
    columns.endResource();
  }

  /** Resource: 1 attributes: KeyValue[] */
  private resource(): void {
    const { columns, cursor, resources } = this;
    const { source } = cursor;
    cursor.peek();
    const start = cursor.at;
    const known = resources.lookUp(source.view, start, source.length - start);
    if (known !== undefined) {
      columns.repeatResource(known);
      cursor.at = start + known.length;
      return;
    }
    let seen = false;
    if (cursor.isNull()) return;
    for (let field = RESOURCE.first(cursor); field !== END; field = RESOURCE.next(cursor)) {
      if (field === 1) {
        seen = markSeen(seen);
        if (cursor.openArray())
          do this.resourceAttribute();
          while (cursor.more(BRACKET));
      } else {
        cursor.skip();
      }
    }
    // From its opening brace to the closing one: no other text begins with it.
    resources.remember(columns, source.view, start, cursor.at - start);
  }

  private resourceAttribute(): void {
    const { columns, value } = this;
    const key = this.attribute(columns.resourceAttributes.keys);
    if (key >= 0) columns.resourceAttribute(key, value.source, value.start, value.length);
  }

  /** ScopeSpans: 1 scope: InstrumentationScope { 1 name: string, 2 version: string }, 2 spans: Span[] */
  private scopeSpans(names: JsonFieldNames): void {
    const { cursor, columns, scopeName, scopeVersion } = this;
    let spansSeen = false;
    scopeName.clear();
    scopeVersion.clear();
    columns.beginScope();
    for (let field = names.first(cursor); field !== END; field = names.next(cursor)) {
      if (field === 1) {
        this.scope();
      } else if (field === 2) {
        spansSeen = markSeen(spansSeen);
        if (cursor.openArray())
          do this.span();
          while (cursor.more(BRACKET));
      } else {
        cursor.skip();
      }
    }
    columns.endScope(scopeName, scopeVersion);
  }

  private scope(): void {
    const { cursor, scopeName, scopeVersion } = this;
    scopeName.clear();
    scopeVersion.clear();
    if (cursor.isNull()) return;
    for (let field = SCOPE.first(cursor); field !== END; field = SCOPE.next(cursor)) {
      if (field === 1) scopeName.read(cursor);
      else if (field === 2) scopeVersion.read(cursor);
      else cursor.skip();
    }
  }

  private span(): void {
    const { cursor, columns, attributes, tails, traceId, spanId, parentSpanId, traceState, name, statusMessage } = this;
    const number = this.spanNumber++;
    if (this.skipped.size > 0 && this.skipped.has(number)) return cursor.skip();
    cursor.peek();
    const begin = cursor.at;
    traceId.clear();
    spanId.clear();
    parentSpanId.clear();
    traceState.clear();
    name.clear();
    statusMessage.clear();
    this.statusCode = 0;
    let kind = 0;
    let startLow = 0;
    let startHigh = 0;
    let endLow = 0;
    let endHigh = 0;
    let attributesSeen = false;
    let eventsSeen = false;
    let linksSeen = false;
    let hasStatus = false;
    // Where the tail begins: what follows the attributes, while it holds nothing that changes from span to span.
    let tail = 0;

    let field = SPAN.first(cursor);
    while (field !== END) {
      switch (field) {
        case 1:
          this.traceIdText(traceId);
          tail = 0;
          break;
        case 2:
          this.idText(spanId, SPAN_ID_DIGITS);
          tail = 0;
          break;
        case 3:
          traceState.read(cursor);
          tail = 0;
          break;
        case 4:
          this.idText(parentSpanId, SPAN_ID_DIGITS);
          tail = 0;
          break;
        case 5:
          name.read(cursor);
          tail = 0;
          break;
        case 6:
          kind = this.enumValue(SPAN_KINDS);
          tail = 0;
          break;
        case 7:
          readUint64(cursor);
          startLow = lastUint64.low;
          startHigh = lastUint64.high;
          tail = 0;
          break;
        case 8:
          readUint64(cursor);
          endLow = lastUint64.low;
          endHigh = lastUint64.high;
          tail = 0;
          break;
        case 9:
          attributesSeen = markSeen(attributesSeen);
          attributes.start(name.source, name.start, name.length);
          if (cursor.openArray())
            do this.spanAttribute();
            while (cursor.more(BRACKET));
          if (eventsSeen || linksSeen || hasStatus) break;
          tail = cursor.at;
          if (!tails.lookUp(attributes.contextHash, cursor.source.view, tail, cursor.source.length - tail)) break;
          if (tails.hasStatus) {
            this.statusCode = tails.statusCode;
            statusMessage.set(cursor.source, tails.messageStart, tails.messageLength);
          }
          cursor.at = tail + tails.length;
          tail = 0;
          field = END;
          continue;
        case 11:
          eventsSeen = markSeen(eventsSeen);
          if (cursor.openArray()) {
            tail = 0;
            do this.event();
            while (cursor.more(BRACKET));
          }
          break;
        case 13:
          linksSeen = markSeen(linksSeen);
          if (cursor.openArray()) {
            tail = 0;
            do this.link();
            while (cursor.more(BRACKET));
          }
          break;
        case 15:
          hasStatus = true;
          this.status();
          break;
        default:
          cursor.skip();
      }
      field = SPAN.next(cursor);
    }
    if (kind === UNKNOWN_NAME || this.statusCode === UNKNOWN_NAME) columns.adjusted.unknown_enum++;
    else if (tail > 0 && (statusMessage.length === 0 || statusMessage.source === cursor.source)) {
      tails.remember(attributes.contextHash, tail, cursor.at - tail, hasStatus, this.statusCode, statusMessage.start, statusMessage.length);
    }

    this.id(columns.traceId, traceId, TRACE_ID_DIGITS, number);
    this.id(columns.spanId, spanId, SPAN_ID_DIGITS, number);
    this.id(columns.parentSpanId, parentSpanId, SPAN_ID_DIGITS, number);
    columns.traceState.string(traceState.source, traceState.start, traceState.length);
    columns.spanName.append(name.source, name.start, name.length);
    columns.statusMessage.string(statusMessage.source, statusMessage.start, statusMessage.length);
    const isTimely = columns.endSpan(kind, this.statusCode, startLow, startHigh, endLow, endHigh);
    if (!isTimely && this.rejected?.has(number) !== true) this.reject(number, 'bad_time');
    if (cursor.at - begin > this.maxSpanBytes) this.reject(number, 'too_large');
  }

  private reject(span: number, reason: RejectReason): void {
    (this.rejected ??= new Map()).set(span, reason);
  }

  private spanAttribute(): void {
    const { columns, cursor, value, attributes } = this;
    const { source } = cursor;
    const begin = cursor.at;
    const match = attributes.lookUp(source.view, begin, source.length - begin);
    if (match === 'attribute') {
      cursor.at = begin + attributes.length;
      return attributes.repeat(columns, source, begin);
    }
    const key =
      match === 'key' && this.plainValue(begin + attributes.keyBytes) ? attributes.key : this.attribute(columns.spanAttributes.keys);
    const length = cursor.at - begin;
    attributes.add(columns, source, begin, this.plain ? value.start - begin : length, length, key, value);
  }

  /** Status: 2 message: string, 3 code: enum */
  private status(): void {
    const { cursor, statusMessage } = this;
    statusMessage.clear();
    this.statusCode = 0;
    if (cursor.isNull()) return;
    for (let field = STATUS.first(cursor); field !== END; field = STATUS.next(cursor)) {
      if (field === 2) statusMessage.read(cursor);
      else if (field === 3) this.statusCode = this.enumValue(STATUS_CODES);
      else cursor.skip();
    }
  }

  private event(): void {
    const { cursor, columns, eventName } = this;
    let low = 0;
    let high = 0;
    let attributesSeen = false;
    eventName.clear();
    for (let field = EVENT.first(cursor); field !== END; field = EVENT.next(cursor)) {
      switch (field) {
        case 1:
          readUint64(cursor);
          low = lastUint64.low;
          high = lastUint64.high;
          break;
        case 2:
          eventName.read(cursor);
          break;
        case 3:
          attributesSeen = markSeen(attributesSeen);
          if (cursor.openArray())
            do this.eventAttribute();
            while (cursor.more(BRACKET));
          break;
        default:
          cursor.skip();
      }
    }
    columns.eventName.append(eventName.source, eventName.start, eventName.length);
    columns.endEvent(low, high);
  }

  private eventAttribute(): void {
    const { columns, value } = this;
    const key = this.attribute(columns.eventAttributes.keys);
    if (key >= 0) columns.eventAttributes.put(key, value.source, value.start, value.length);
  }

  private link(): void {
    const { cursor, columns, linkTraceId: traceId, linkSpanId: spanId, linkTraceState: traceState } = this;
    const number = this.spanNumber - 1;
    let attributesSeen = false;
    traceId.clear();
    spanId.clear();
    traceState.clear();
    for (let field = LINK.first(cursor); field !== END; field = LINK.next(cursor)) {
      switch (field) {
        case 1:
          traceId.read(cursor);
          break;
        case 2:
          spanId.read(cursor);
          break;
        case 3:
          traceState.read(cursor);
          break;
        case 4:
          attributesSeen = markSeen(attributesSeen);
          if (cursor.openArray())
            do this.linkAttribute();
            while (cursor.more(BRACKET));
          break;
        default:
          cursor.skip();
      }
    }
    this.id(columns.linkTraceId, traceId, TRACE_ID_DIGITS, number);
    this.id(columns.linkSpanId, spanId, SPAN_ID_DIGITS, number);
    columns.linkTraceState.string(traceState.source, traceState.start, traceState.length);
    columns.endLink();
  }

  private linkAttribute(): void {
    const { columns, value } = this;
    const key = this.attribute(columns.linkAttributes.keys);
    if (key >= 0) columns.linkAttributes.put(key, value.source, value.start, value.length);
  }

  /**
   * KeyValue: 1 key: string, 2 value: AnyValue. Its text is then in `value`.
   * @returns the key's number in the dictionary of `keys`, or -1 for an attribute that is left out as it has no value
   */
  private attribute(keys: LowCardinalityColumn): number {
    const { cursor, columns, key, value } = this;
    const { dialect } = columns;
    value.clear();
    this.plain = this.plainAttribute();
    if (!this.plain) {
      key.clear();
      for (let field = KEY_VALUE.first(cursor); field !== END; field = KEY_VALUE.next(cursor)) {
        if (field === 1) {
          key.read(cursor);
        } else if (field === 2) {
          value.clear();
          readAnyValue(cursor, dialect, value);
        } else {
          cursor.skip();
        }
      }
    }
    if (!value.present && !dialect.keepEmptyValues) return -1;
    return keys.dictionary.indexOf(key.source, key.start, key.length);
  }

  /**
   * Takes the short way through an attribute that is written as nearly all are:
   * `{"key":"…","value":{"stringValue":"…"}}`. False, and nothing read, if this one is not.
   */
  private plainAttribute(): boolean {
    const { cursor, key } = this;
    const { source } = cursor;
    cursor.peek();
    const begin = cursor.at;
    if (!PLAIN_KEY.isAt(source.view, begin)) return false;
    cursor.at = begin + PLAIN_KEY.length - 1;
    cursor.string();
    if (!cursor.escaped && PLAIN_VALUE.isAt(source.view, cursor.at)) {
      key.set(source, cursor.start, cursor.length);
      if (this.plainValue(cursor.at + PLAIN_VALUE.length)) return true;
    }
    cursor.at = begin;
    return false;
  }

  /** Reads such an attribute's value from its first character on, to the end of the attribute. False, and nothing read, if there are escapes. */
  private plainValue(start: number): boolean {
    const { cursor, value } = this;
    const { source, at } = cursor;
    cursor.at = start - 1;
    cursor.string();
    if (!cursor.escaped && source.view.getUint16(cursor.at, true) === TWO_BRACES) {
      cursor.at += 2;
      value.set(source, start, cursor.length);
      this.plain = true;
      return true;
    }
    cursor.at = at;
    return false;
  }

  private enumValue({ prefix, names }: EnumText): number {
    const { cursor } = this;
    const first = cursor.peek();
    if (first === LETTER_N) {
      cursor.isNull();
      return 0;
    }
    if (first !== QUOTE) {
      const { bytes } = cursor.source;
      const next = bytes[cursor.at + 1];
      if (first >= ZERO && first <= ZERO + 9 && (next === COMMA || next === BRACE_CLOSE)) {
        cursor.at++;
        return first - ZERO;
      }
      cursor.number();
      return cursor.length === 1 ? cursor.source.bytes[cursor.start] - ZERO : Number(cursor.text());
    }
    cursor.string();
    const text = cursor.text();
    if (/^\d+$/.test(text)) return Number(text);
    // Senders write names in any case, and without what they all begin with.
    const name = text.toUpperCase();
    const value = names.indexOf(name.startsWith(prefix) ? name.slice(prefix.length) : name);
    return value < 0 ? UNKNOWN_NAME : value;
  }

  /** Reads a trace id; most often it is the one of the span before. */
  private traceIdText(text: Text): void {
    const { cursor, lastTraceId } = this;
    const { source } = cursor;
    const start = cursor.at + 1;
    const end = start + TRACE_ID_DIGITS;
    if (
      lastTraceId >= 0 &&
      source.bytes[start - 1] === QUOTE &&
      source.bytes[end] === QUOTE &&
      sameBytes(source.view, lastTraceId, start, TRACE_ID_DIGITS)
    ) {
      text.setHex(source, start, TRACE_ID_DIGITS);
      cursor.at = end + 1;
    } else {
      this.idText(text, TRACE_ID_DIGITS);
      this.lastTraceId = text.isHex ? text.start : -1;
    }
  }

  /** Reads an id, and takes the short way where it is written as usual, in lower case and without escapes. */
  private idText(text: Text, digits: number): void {
    const { cursor } = this;
    const { source } = cursor;
    const start = cursor.at + 1;
    const end = start + digits;
    if (end < source.length && source.bytes[start - 1] === QUOTE && source.bytes[end] === QUOTE && isLowerHex(source.view, start, digits)) {
      text.setHex(source, start, digits);
      cursor.at = end + 1;
    } else {
      text.read(cursor);
    }
  }

  private id(column: ByteBuffer, text: Text, digits: number, span: number): void {
    const { source, start, length } = text;
    const isBlank = length === 0 || (length === digits && source.view.getInt32(start, true) === FOUR_ZEROS && isZeros(text));
    if (isBlank) column.byte(0);
    else if (text.isHex) column.string(source, start, digits);
    else if (length !== digits || !writeLowerHexString(column, source, start, digits)) {
      this.reject(span, 'bad_id');
      column.byte(0);
    }
  }
}

function markSeen(seen: boolean): true {
  if (seen) throw new DuplicateField();
  return true;
}

function isZeros({ source, start, length }: Text): boolean {
  for (let at = start; at < start + length; at++) if (source.bytes[at] !== 0x30) return false;
  return true;
}

/** Behind the byte order mark, if there is one. */
function textStart(body: ByteBuffer, begin: number): number {
  return begin + (startsWithByteOrderMark(body, begin) ? 3 : 0);
}

function startsWithByteOrderMark({ bytes, length }: ByteBuffer, begin: number): boolean {
  return length >= begin + 3 && bytes[begin] === 0xef && bytes[begin + 1] === 0xbb && bytes[begin + 2] === 0xbf;
}
