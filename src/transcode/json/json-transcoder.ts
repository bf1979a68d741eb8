import { isUtf8 } from 'node:buffer';
import type { ByteBuffer } from '../bytes/byte-buffer.ts';
import { isLowerHex, writeLowerHexString } from '../bytes/hex.ts';
import { MalformedRequest } from '../bytes/malformed-request.ts';
import { sameBytes } from '../bytes/same-bytes.ts';
import type { AttributesColumn } from '../columns/attributes-column.ts';
import { type RejectedSpans, SpanRejections } from '../columns/rejection.ts';
import type { SpanColumns } from '../columns/span-columns.ts';
import { KnownAttributes } from '../known/known-attributes.ts';
import { KnownResources } from '../known/known-resources.ts';
import { KnownSpanEnds } from '../known/known-span-ends.ts';
import { otherJson } from '../other-signals.ts';
import { JsonAttribute } from './json-attribute.ts';
import { BRACKET, JsonCursor, QUOTE } from './json-cursor.ts';
import { eraseSuperseded } from './json-duplicates.ts';
import { readEnum, SPAN_KINDS, STATUS_CODES, UNKNOWN_NAME } from './json-enum.ts';
import { END, type JsonFieldNames } from './json-field-names.ts';
import { EVENT, LIBRARY_SPANS, LINK, REQUEST, RESOURCE, RESOURCE_SPANS, SCOPE, SCOPE_SPANS, SPAN, STATUS } from './json-fields.ts';
import { lastUint64, readUint64 } from './json-number.ts';
import { JsonSpanFields } from './json-span-fields.ts';
import { JsonString } from './json-string.ts';

const TRACE_ID_DIGITS = 32;
const SPAN_ID_DIGITS = 16;
const FOUR_ZEROS = 0x30303030; // '0000'

/** A list, or the resource, is twice in one object. The last one counts, but the first is already in the columns. */
class DuplicateField extends Error {}

/**
 * Reads requests in OTLP/JSON into the columns: ids in hex, everything else as protobuf's JSON mapping has it. Keys come in any
 * order, in lowerCamelCase or snake_case; unknown ones are skipped. The field numbers are those of opentelemetry-proto 1.x
 * (json-fields.ts).
 */
export class JsonTranscoder {
  private readonly columns: SpanColumns;
  private readonly cursor = new JsonCursor();
  private readonly attribute: JsonAttribute;
  private readonly scopeName = new JsonString();
  private readonly scopeVersion = new JsonString();
  private readonly fields = new JsonSpanFields();
  private readonly eventName = new JsonString();
  private readonly linkTraceId = new JsonString();
  private readonly linkSpanId = new JsonString();
  private readonly linkTraceState = new JsonString();
  private readonly strings: readonly JsonString[];
  private readonly resources = new KnownResources();
  private readonly attributes = new KnownAttributes();
  private readonly ends = new KnownSpanEnds();
  private readonly rejections = new SpanRejections();
  private readonly maxSpanBytes: number;
  /** The offset of the trace id of the last span; -1 if it had none, or not 32 lower-case digits. */
  private lastTraceId = -1;

  /** @param maxSpanBytes spans of more bytes are rejected */
  constructor(columns: SpanColumns, maxSpanBytes: number) {
    this.columns = columns;
    this.maxSpanBytes = maxSpanBytes;
    this.attribute = new JsonAttribute(this.cursor, columns.dialect);
    const { traceId, spanId, parentSpanId, traceState, name, statusMessage } = this.fields;
    this.strings = [
      this.scopeName,
      this.scopeVersion,
      traceId,
      spanId,
      parentSpanId,
      traceState,
      name,
      statusMessage,
      this.eventName,
      this.linkTraceId,
      this.linkSpanId,
      this.linkTraceState,
    ];
  }

  /**
   * Appends the spans of a request to the columns.
   * @param begin where the request begins in `body`. It ends where `body` does
   * @param skipped spans to leave out
   * @returns spans that are too large, or have malformed ids or times that are not accepted. Undefined if there are none; else the
   *   caller must remove the rows and call again with these as `skipped`
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
   * The message for a request without traces that looks like another OTLP signal, or like Jaeger's or Zipkin's JSON.
   * @param mayBeTraces whether a request with resourceSpans counts as traces
   */
  otherSignal(body: ByteBuffer, begin: number, mayBeTraces: boolean): string | undefined {
    body.zeroSlack();
    return otherJson(body, textStart(body, begin), mayBeTraces);
  }

  /** Clears the caches of earlier requests. Must be called when the columns or the requests' bytes are cleared. */
  forget(): void {
    this.resources.reset();
    this.attributes.reset();
    this.ends.reset();
  }

  /** Frees the memory of a large request. */
  release(): void {
    this.attribute.release();
    for (const string of this.strings) string.release();
  }

  /**   ExportTraceServiceRequest: 1 resourceSpans: ResourceSpans[] */
  private request(body: ByteBuffer, start: number, skipped: RejectedSpans): RejectedSpans | undefined {
    const { cursor, rejections } = this;
    cursor.source = body;
    cursor.at = start;
    rejections.start(skipped);
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
    return rejections.found;
  }

  /**
   *   ResourceSpans:
   *      1 resource: Resource         1000 instrumentationLibrarySpans: ScopeSpans[], under the name of before OTLP 0.15
   *      2 scopeSpans: ScopeSpans[]
   */
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

  /**   Resource: 1 attributes: KeyValue[] */
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
    // From its opening brace to the closing one: no longer text starts with the same bytes.
    resources.remember(columns, source.view, start, cursor.at - start);
  }

  private resourceAttribute(): void {
    const { columns, attribute } = this;
    const { value } = attribute;
    const key = attribute.read(columns.resourceAttributes.keys);
    if (key >= 0) columns.resourceAttribute(key, value.source, value.start, value.length);
  }

  /**   ScopeSpans: 1 scope: InstrumentationScope   2 spans: Span[] */
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

  /**   InstrumentationScope: 1 name: string   2 version: string */
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

  /** Appends a span's row, or rejects or skips the span. */
  private span(): void {
    const { cursor, rejections } = this;
    if (rejections.skipsNext()) return cursor.skip();
    cursor.peek();
    const begin = cursor.at;
    this.spanFields();
    this.endSpan();
    if (cursor.at - begin > this.maxSpanBytes) rejections.reject('too_large');
  }

  /**
   *   Span:
   *      1 traceId: hex        5 name: string                     9 attributes: KeyValue[]       13 links: Link[]
   *      2 spanId: hex         6 kind: enum                      10 droppedAttributesCount       14 droppedLinksCount
   *      3 traceState: string  7 startTimeUnixNano: fixed64      11 events: Event[]              15 status: Status
   *      4 parentSpanId: hex   8 endTimeUnixNano: fixed64        12 droppedEventsCount           16 flags
   */
  private spanFields(): void {
    const { cursor, fields } = this;
    let attributesSeen = false;
    let eventsSeen = false;
    let linksSeen = false;
    let statusSeen = false;
    // The offset of the span's end (known-span-ends.ts); 0 if it has fields that differ from span to span.
    let endStart = 0;
    fields.clear();
    for (let field = SPAN.first(cursor); field !== END; field = SPAN.next(cursor)) {
      if (field > 0 && field < 9) endStart = 0;
      switch (field) {
        case 1:
          this.readTraceId();
          break;
        case 2:
          this.readId(fields.spanId, SPAN_ID_DIGITS);
          break;
        case 3:
          fields.traceState.read(cursor);
          break;
        case 4:
          this.readId(fields.parentSpanId, SPAN_ID_DIGITS);
          break;
        case 5:
          fields.name.read(cursor);
          break;
        case 6:
          fields.kind = readEnum(cursor, SPAN_KINDS);
          break;
        case 7:
          readUint64(cursor);
          fields.startLow = lastUint64.low;
          fields.startHigh = lastUint64.high;
          break;
        case 8:
          readUint64(cursor);
          fields.endLow = lastUint64.low;
          fields.endHigh = lastUint64.high;
          break;
        case 9:
          attributesSeen = markSeen(attributesSeen);
          this.spanAttributes();
          if (eventsSeen || linksSeen || statusSeen) break;
          if (this.repeatSpanEnd()) return;
          endStart = cursor.at;
          break;
        case 11:
          eventsSeen = markSeen(eventsSeen);
          if (this.events()) endStart = 0;
          break;
        case 13:
          linksSeen = markSeen(linksSeen);
          if (this.links()) endStart = 0;
          break;
        case 15:
          statusSeen = true;
          this.status();
          break;
        default:
          cursor.skip();
      }
    }
    if (endStart > 0) this.rememberSpanEnd(endStart);
  }

  /** Takes over the end of the span if it is known. @returns whether it is; the cursor is then after the span */
  private repeatSpanEnd(): boolean {
    const { cursor, ends, fields } = this;
    const { source, at } = cursor;
    if (!ends.lookUp(this.attributes.contextHash, source.view, at, source.length - at)) return false;
    fields.statusCode = ends.statusCode;
    fields.statusMessage.set(source, ends.messageStart, ends.messageLength);
    cursor.at = at + ends.length;
    return true;
  }

  private rememberSpanEnd(start: number): void {
    const { cursor, ends } = this;
    const { statusCode, statusMessage } = this.fields;
    // A message with escapes is not stored as it is in the request.
    if (statusMessage.length > 0 && statusMessage.source !== cursor.source) return;
    ends.remember(this.attributes.contextHash, start, cursor.at - start, statusCode, statusMessage.start, statusMessage.length);
  }

  /** Writes the remaining columns of the span's row, and ends it. */
  private endSpan(): void {
    const { columns, fields, rejections } = this;
    const { traceState, name, statusMessage, kind, statusCode, startLow, startHigh, endLow, endHigh } = fields;
    if (kind === UNKNOWN_NAME || statusCode === UNKNOWN_NAME) columns.adjusted.unknown_enum++;
    this.writeId(columns.traceId, fields.traceId, TRACE_ID_DIGITS);
    this.writeId(columns.spanId, fields.spanId, SPAN_ID_DIGITS);
    this.writeId(columns.parentSpanId, fields.parentSpanId, SPAN_ID_DIGITS);
    columns.traceState.string(traceState.source, traceState.start, traceState.length);
    columns.spanName.append(name.source, name.start, name.length);
    columns.statusMessage.string(statusMessage.source, statusMessage.start, statusMessage.length);
    if (!columns.endSpan(kind, statusCode, startLow, startHigh, endLow, endHigh)) rejections.reject('bad_time');
  }

  private spanAttributes(): void {
    const { cursor, attributes } = this;
    const { name } = this.fields;
    attributes.start(name.source, name.start, name.length);
    if (cursor.openArray())
      do this.spanAttribute();
      while (cursor.more(BRACKET));
  }

  private spanAttribute(): void {
    const { columns, cursor, attribute, attributes } = this;
    const { source, at: begin } = cursor;
    const match = attributes.lookUp(source.view, begin, source.length - begin);
    if (match === 'attribute') {
      cursor.at = begin + attributes.length;
      return attributes.repeat(columns, source, begin);
    }
    const isPlain = match === 'key' && attribute.readPlainValue(begin + attributes.keyBytes);
    const key = isPlain ? attributes.key : attribute.read(columns.spanAttributes.keys);
    const length = cursor.at - begin;
    attributes.add(columns, source, begin, attribute.isPlain ? attribute.value.start - begin : length, length, key, attribute.value);
  }

  /**   Status: 2 message: string   3 code: enum */
  private status(): void {
    const { cursor, fields } = this;
    fields.statusMessage.clear();
    fields.statusCode = 0;
    if (cursor.isNull()) return;
    for (let field = STATUS.first(cursor); field !== END; field = STATUS.next(cursor)) {
      if (field === 2) fields.statusMessage.read(cursor);
      else if (field === 3) fields.statusCode = readEnum(cursor, STATUS_CODES);
      else cursor.skip();
    }
  }

  /** @returns whether there are any */
  private events(): boolean {
    const { cursor } = this;
    if (!cursor.openArray()) return false;
    do this.event();
    while (cursor.more(BRACKET));
    return true;
  }

  /**   Event: 1 timeUnixNano: fixed64   2 name: string   3 attributes: KeyValue[]   4 droppedAttributesCount */
  private event(): void {
    const { cursor, columns, eventName } = this;
    let timeLow = 0;
    let timeHigh = 0;
    let attributesSeen = false;
    eventName.clear();
    for (let field = EVENT.first(cursor); field !== END; field = EVENT.next(cursor)) {
      switch (field) {
        case 1:
          readUint64(cursor);
          timeLow = lastUint64.low;
          timeHigh = lastUint64.high;
          break;
        case 2:
          eventName.read(cursor);
          break;
        case 3:
          attributesSeen = markSeen(attributesSeen);
          this.putAttributes(columns.eventAttributes);
          break;
        default:
          cursor.skip();
      }
    }
    columns.eventName.append(eventName.source, eventName.start, eventName.length);
    columns.endEvent(timeLow, timeHigh);
  }

  /** @returns whether there are any */
  private links(): boolean {
    const { cursor } = this;
    if (!cursor.openArray()) return false;
    do this.link();
    while (cursor.more(BRACKET));
    return true;
  }

  /**   Link: 1 traceId: hex   2 spanId: hex   3 traceState: string   4 attributes: KeyValue[]   5 droppedAttributesCount   6 flags */
  private link(): void {
    const { cursor, columns, linkTraceId, linkSpanId, linkTraceState } = this;
    let attributesSeen = false;
    linkTraceId.clear();
    linkSpanId.clear();
    linkTraceState.clear();
    for (let field = LINK.first(cursor); field !== END; field = LINK.next(cursor)) {
      switch (field) {
        case 1:
          linkTraceId.read(cursor);
          break;
        case 2:
          linkSpanId.read(cursor);
          break;
        case 3:
          linkTraceState.read(cursor);
          break;
        case 4:
          attributesSeen = markSeen(attributesSeen);
          this.putAttributes(columns.linkAttributes);
          break;
        default:
          cursor.skip();
      }
    }
    this.writeId(columns.linkTraceId, linkTraceId, TRACE_ID_DIGITS);
    this.writeId(columns.linkSpanId, linkSpanId, SPAN_ID_DIGITS);
    columns.linkTraceState.string(linkTraceState.source, linkTraceState.start, linkTraceState.length);
    columns.endLink();
  }

  /** Reads the attributes of an event or link into their column. */
  private putAttributes(column: AttributesColumn): void {
    const { cursor, attribute } = this;
    const { value } = attribute;
    if (!cursor.openArray()) return;
    do {
      const key = attribute.read(column.keys);
      if (key >= 0) column.put(key, value.source, value.start, value.length);
    } while (cursor.more(BRACKET));
  }

  /** Reads the span's trace id, which is usually that of the span before. */
  private readTraceId(): void {
    const { cursor, lastTraceId } = this;
    const { traceId } = this.fields;
    const { source } = cursor;
    const start = cursor.at + 1;
    const end = start + TRACE_ID_DIGITS;
    const isQuoted = source.bytes[start - 1] === QUOTE && source.bytes[end] === QUOTE;
    if (lastTraceId >= 0 && isQuoted && sameBytes(source.view, lastTraceId, start, TRACE_ID_DIGITS)) {
      traceId.setHex(source, start, TRACE_ID_DIGITS);
      cursor.at = end + 1;
    } else {
      this.readId(traceId, TRACE_ID_DIGITS);
      this.lastTraceId = traceId.isHex ? traceId.start : -1;
    }
  }

  /** Reads an id; quickly if it has the usual form: the right number of digits, in lower case. */
  private readId(id: JsonString, digits: number): void {
    const { cursor } = this;
    const { source } = cursor;
    const start = cursor.at + 1;
    const end = start + digits;
    if (end < source.length && source.bytes[start - 1] === QUOTE && source.bytes[end] === QUOTE && isLowerHex(source.view, start, digits)) {
      id.setHex(source, start, digits);
      cursor.at = end + 1;
    } else {
      id.read(cursor);
    }
  }

  /** Writes an id; an id of zeros counts as absent. Rejects the span if the id has a wrong length, or is not hex. */
  private writeId(column: ByteBuffer, id: JsonString, digits: number): void {
    const { source, start, length } = id;
    const isAbsent = length === 0 || (length === digits && source.view.getInt32(start, true) === FOUR_ZEROS && isZeros(id));
    if (isAbsent) column.byte(0);
    else if (id.isHex) column.string(source, start, digits);
    else if (length !== digits || !writeLowerHexString(column, source, start, digits)) {
      this.rejections.reject('bad_id');
      column.byte(0);
    }
  }
}

/** @throws DuplicateField when the field was seen before in the same object */
function markSeen(seen: boolean): true {
  if (seen) throw new DuplicateField();
  return true;
}

function isZeros({ source, start, length }: JsonString): boolean {
  for (let at = start; at < start + length; at++) if (source.bytes[at] !== 0x30) return false;
  return true;
}

/** Where the JSON text starts: after the byte order mark, if there is one. */
function textStart({ bytes, length }: ByteBuffer, begin: number): number {
  const hasMark = length >= begin + 3 && bytes[begin] === 0xef && bytes[begin + 1] === 0xbb && bytes[begin + 2] === 0xbf;
  return hasMark ? begin + 3 : begin;
}
