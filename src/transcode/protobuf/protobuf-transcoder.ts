import type { ByteBuffer } from '../bytes/byte-buffer.ts';
import { writeHexString } from '../bytes/hex.ts';
import { sameBytes } from '../bytes/same-bytes.ts';
import { Slice } from '../bytes/slice.ts';
import type { AttributesColumn } from '../columns/attributes-column.ts';
import { type RejectedSpans, SpanRejections } from '../columns/rejection.ts';
import type { SpanColumns } from '../columns/span-columns.ts';
import { KnownAttributes } from '../known/known-attributes.ts';
import { KnownResources } from '../known/known-resources.ts';
import { otherProtobuf } from '../other-signals.ts';
import { ProtobufAttribute } from './protobuf-attribute.ts';
import { ProtobufCursor } from './protobuf-cursor.ts';

const TRACE_ID_BYTES = 16;
const SPAN_ID_BYTES = 8;
/** Bytes of a trace id in its column: a length and the digits. */
const TRACE_ID_STRING = 1 + 2 * TRACE_ID_BYTES;
/** instrumentation_library_spans as OTLP 0.15 to 0.19 number it: 1000, with a length. */
const LIBRARY_SPANS_TAG = (1000 << 3) | 2;

/**
 * Reads requests in Protobuf into the columns. Fields may come in any order, more than once (the last one counts, messages and
 * lists are merged) and be unknown. A known field with another wire type is skipped like an unknown one. Field numbers are those of
 * opentelemetry-proto 1.x; the case labels are tags: number << 3 | wire type.
 */
export class ProtobufTranscoder {
  private readonly columns: SpanColumns;
  private readonly cursor = new ProtobufCursor();
  private readonly attribute: ProtobufAttribute;
  private readonly scopeName = new Slice();
  private readonly scopeVersion = new Slice();
  private readonly traceState = new Slice();
  private readonly statusMessage = new Slice();
  private statusCode = 0;
  private readonly eventName = new Slice();
  private readonly linkTraceId = new Slice();
  private readonly linkSpanId = new Slice();
  private readonly linkTraceState = new Slice();
  private readonly resources = new KnownResources();
  private readonly attributes = new KnownAttributes();
  private readonly rejections = new SpanRejections();
  private readonly maxSpanBytes: number;
  /** The offset of the trace id of the last row; -1 if it had none. */
  private lastTraceId = -1;

  /** @param maxSpanBytes spans of more bytes are rejected */
  constructor(columns: SpanColumns, maxSpanBytes: number) {
    this.columns = columns;
    this.maxSpanBytes = maxSpanBytes;
    this.attribute = new ProtobufAttribute(this.cursor, columns.dialect);
  }

  /**
   * Appends the spans of a request to the columns.
   *
   *   ExportTraceServiceRequest, trace_service.proto: 1 resource_spans: ResourceSpans[]
   *
   * @param begin where the request begins in `body`. It ends where `body` does
   * @param skipped spans to leave out
   * @returns spans that are too large, or have ids of a wrong length or times that are not accepted. Undefined if there are none; else
   *   the caller must remove the rows and call again with these as `skipped`
   * @throws MalformedRequest
   */
  transcode(body: ByteBuffer, begin: number, skipped: RejectedSpans): RejectedSpans | undefined {
    const { cursor, rejections } = this;
    cursor.source = body;
    cursor.begin = begin;
    cursor.at = begin;
    this.lastTraceId = -1;
    rejections.start(skipped);
    const end = body.length;
    while (cursor.at < end) {
      const tag = cursor.tag();
      if (tag === 0x0a) this.resourceSpans(cursor.fieldEnd(end));
      else cursor.skip(tag, end);
    }
    cursor.expectEnd(end);
    return rejections.found;
  }

  /** The message for a request without traces that looks like another OTLP signal. */
  otherSignal(body: ByteBuffer, begin: number): string | undefined {
    return otherProtobuf(body, begin);
  }

  /** Clears the caches of earlier requests. Must be called when the columns or the requests' bytes are cleared. */
  forget(): void {
    this.resources.reset();
    this.attributes.reset();
  }

  /** Frees the memory of a large request. */
  release(): void {
    this.attribute.release();
  }

  /**
   *   ResourceSpans, trace.proto:
   *      1 resource: Resource         3 schema_url: string
   *      2 scope_spans: ScopeSpans[]  1000 instrumentation_library_spans: ScopeSpans[], under the name of before OTLP 0.15
   */
  private resourceSpans(end: number): void {
    const { cursor, columns } = this;
    columns.beginResource();
    while (cursor.at < end) {
      const tag = cursor.tag();
      if (tag === 0x0a) this.resource(cursor.fieldEnd(end));
      else if (tag === 0x12 || tag === LIBRARY_SPANS_TAG) this.scopeSpans(cursor.fieldEnd(end));
      else cursor.skip(tag, end);
    }
    cursor.expectEnd(end);
    columns.endResource();
  }

  /**   Resource, resource.proto: 1 attributes: KeyValue[]   2 dropped_attributes_count: uint32 */
  private resource(end: number): void {
    const { cursor, columns, resources, attribute } = this;
    const { value } = attribute;
    const start = cursor.at;
    const known = resources.lookUp(cursor.source.view, start, end - start);
    if (known?.length === end - start) {
      columns.repeatResource(known);
      cursor.at = end;
      return;
    }
    // A message that is given twice is merged.
    const isFirst = columns.resourceIsEmpty;
    while (cursor.at < end) {
      const tag = cursor.tag();
      if (tag !== 0x0a) {
        cursor.skip(tag, end);
        continue;
      }
      const key = attribute.read(cursor.fieldEnd(end), columns.resourceAttributes.keys);
      if (key >= 0) columns.resourceAttribute(key, value.source, value.start, value.length);
    }
    cursor.expectEnd(end);
    if (isFirst) resources.remember(columns, cursor.source.view, start, end - start);
  }

  /**   ScopeSpans, trace.proto: 1 scope: InstrumentationScope   2 spans: Span[]   3 schema_url: string */
  private scopeSpans(end: number): void {
    const { cursor, columns, scopeName, scopeVersion } = this;
    scopeName.clear();
    scopeVersion.clear();
    columns.beginScope();
    while (cursor.at < end) {
      const tag = cursor.tag();
      if (tag === 0x12) this.span(cursor.fieldEnd(end));
      else if (tag === 0x0a) this.scope(cursor.fieldEnd(end));
      else cursor.skip(tag, end);
    }
    cursor.expectEnd(end);
    columns.endScope(scopeName, scopeVersion);
  }

  /**   InstrumentationScope, common.proto: 1 name: string   2 version: string   3 attributes: KeyValue[]   4 dropped_attributes_count */
  private scope(end: number): void {
    const { cursor } = this;
    while (cursor.at < end) {
      const tag = cursor.tag();
      if (tag === 0x0a) cursor.slice(end, this.scopeName);
      else if (tag === 0x12) cursor.slice(end, this.scopeVersion);
      else cursor.skip(tag, end);
    }
    cursor.expectEnd(end);
  }

  /** Appends a span's row, or rejects or skips the span. */
  private span(end: number): void {
    const { cursor, rejections } = this;
    if (rejections.skipsNext()) {
      cursor.at = end;
    } else if (end - cursor.at > this.maxSpanBytes) {
      rejections.reject('too_large');
      cursor.at = end;
    } else {
      this.spanFields(end);
    }
  }

  /**
   *   Span, trace.proto:
   *      1 trace_id: bytes(16)        5 name: string                     9 attributes: KeyValue[]   13 links: Link[]
   *      2 span_id: bytes(8)          6 kind: enum                      10 dropped_attributes_count 14 dropped_links_count
   *      3 trace_state: string        7 start_time_unix_nano: fixed64   11 events: Event[]          15 status: Status
   *      4 parent_span_id: bytes(8)   8 end_time_unix_nano: fixed64     12 dropped_events_count     16 flags: fixed32
   *
   * The fields that nearly all spans have are local variables: as fields of an object they cost a request 2 % more time.
   */
  private spanFields(end: number): void {
    const { cursor, columns, traceState, statusMessage } = this;
    let traceIdStart = 0;
    let traceIdLength = 0;
    let spanIdStart = 0;
    let spanIdLength = 0;
    let parentIdStart = 0;
    let parentIdLength = 0;
    let nameStart = 0;
    let nameLength = 0;
    let kind = 0;
    let startLow = 0;
    let startHigh = 0;
    let endLow = 0;
    let endHigh = 0;
    let inAttributes = false;
    traceState.clear();
    statusMessage.clear();
    this.statusCode = 0;
    while (cursor.at < end) {
      const tag = cursor.tag();
      switch (tag) {
        case 0x0a:
          traceIdLength = cursor.bytes(end);
          traceIdStart = cursor.at - traceIdLength;
          break;
        case 0x12:
          spanIdLength = cursor.bytes(end);
          spanIdStart = cursor.at - spanIdLength;
          break;
        case 0x22:
          parentIdLength = cursor.bytes(end);
          parentIdStart = cursor.at - parentIdLength;
          break;
        case 0x2a:
          nameLength = cursor.bytes(end);
          nameStart = cursor.at - nameLength;
          break;
        case 0x30:
          cursor.varint();
          kind = cursor.low;
          break;
        case 0x39:
          cursor.fixed64(end);
          startLow = cursor.low;
          startHigh = cursor.high;
          break;
        case 0x41:
          cursor.fixed64(end);
          endLow = cursor.low;
          endHigh = cursor.high;
          break;
        case 0x4a:
          if (!inAttributes) this.attributes.start(cursor.source, nameStart, nameLength);
          inAttributes = true;
          this.spanAttribute(cursor.fieldEnd(end));
          break;
        default:
          this.rareSpanField(tag, end);
      }
    }
    cursor.expectEnd(end);
    this.writeTraceId(traceIdStart, traceIdLength);
    this.writeId(columns.spanId, spanIdStart, spanIdLength, SPAN_ID_BYTES);
    this.writeId(columns.parentSpanId, parentIdStart, parentIdLength, SPAN_ID_BYTES);
    columns.traceState.string(traceState.source, traceState.start, traceState.length);
    columns.spanName.append(cursor.source, nameStart, nameLength);
    columns.statusMessage.string(statusMessage.source, statusMessage.start, statusMessage.length);
    if (!columns.endSpan(kind, this.statusCode, startLow, startHigh, endLow, endHigh)) this.rejections.reject('bad_time');
  }

  /** Reads a field that many spans don't have, or skips an unknown one. */
  private rareSpanField(tag: number, end: number): void {
    const { cursor } = this;
    if (tag === 0x1a) cursor.slice(end, this.traceState);
    else if (tag === 0x5a) this.event(cursor.fieldEnd(end));
    else if (tag === 0x6a) this.link(cursor.fieldEnd(end));
    else if (tag === 0x7a) this.status(cursor.fieldEnd(end));
    else cursor.skip(tag, end);
  }

  /** Repeats the attribute at the cursor if it is known, else reads it. */
  private spanAttribute(end: number): void {
    const { cursor, columns, attribute, attributes } = this;
    const { source, at: begin } = cursor;
    const match = attributes.lookUp(source.view, begin, end - begin);
    if (match === 'attribute' && attributes.length === end - begin) {
      // The same as `attributes.repeat`, whose call costs a request 4 % more time.
      const { key, valueOffset, valueLength } = attributes;
      cursor.at = end;
      if (key >= 0) {
        if (valueOffset >= 0) columns.spanAttribute(key, source, begin + valueOffset, valueLength);
        else columns.spanAttribute(key, attributes.texts, ~valueOffset, valueLength);
      }
      attributes.advance(key, valueLength);
      return;
    }
    const key = attribute.read(end, columns.spanAttributes.keys, match === 'nothing' ? 0 : attributes.keyBytes, attributes.key);
    // The key is nearly always first, after a tag and a length of a byte each. Attributes that begin otherwise are not cached.
    const keyBytes = attribute.key.start === begin + 2 ? 2 + attribute.key.length : 0;
    attributes.add(columns, source, begin, keyBytes, end - begin, key, attribute.value);
  }

  /**   Status, trace.proto: 2 message: string   3 code: enum */
  private status(end: number): void {
    const { cursor } = this;
    while (cursor.at < end) {
      const tag = cursor.tag();
      if (tag === 0x12) {
        cursor.slice(end, this.statusMessage);
      } else if (tag === 0x18) {
        cursor.varint();
        this.statusCode = cursor.low;
      } else {
        cursor.skip(tag, end);
      }
    }
    cursor.expectEnd(end);
  }

  /**   Event, trace.proto: 1 time_unix_nano: fixed64   2 name: string   3 attributes: KeyValue[]   4 dropped_attributes_count: uint32 */
  private event(end: number): void {
    const { cursor, columns, eventName } = this;
    let timeLow = 0;
    let timeHigh = 0;
    eventName.clear();
    while (cursor.at < end) {
      const tag = cursor.tag();
      switch (tag) {
        case 0x09:
          cursor.fixed64(end);
          timeLow = cursor.low;
          timeHigh = cursor.high;
          break;
        case 0x12:
          cursor.slice(end, eventName);
          break;
        case 0x1a:
          this.putAttribute(cursor.fieldEnd(end), columns.eventAttributes);
          break;
        default:
          cursor.skip(tag, end);
      }
    }
    cursor.expectEnd(end);
    columns.eventName.append(eventName.source, eventName.start, eventName.length);
    columns.endEvent(timeLow, timeHigh);
  }

  /**
   *   Link, trace.proto:
   *      1 trace_id: bytes(16)   3 trace_state: string      5 dropped_attributes_count: uint32
   *      2 span_id: bytes(8)     4 attributes: KeyValue[]   6 flags: fixed32
   */
  private link(end: number): void {
    const { cursor, columns, linkTraceId, linkSpanId, linkTraceState } = this;
    linkTraceId.clear();
    linkSpanId.clear();
    linkTraceState.clear();
    while (cursor.at < end) {
      const tag = cursor.tag();
      switch (tag) {
        case 0x0a:
          cursor.slice(end, linkTraceId);
          break;
        case 0x12:
          cursor.slice(end, linkSpanId);
          break;
        case 0x1a:
          cursor.slice(end, linkTraceState);
          break;
        case 0x22:
          this.putAttribute(cursor.fieldEnd(end), columns.linkAttributes);
          break;
        default:
          cursor.skip(tag, end);
      }
    }
    cursor.expectEnd(end);
    this.writeId(columns.linkTraceId, linkTraceId.start, linkTraceId.length, TRACE_ID_BYTES);
    this.writeId(columns.linkSpanId, linkSpanId.start, linkSpanId.length, SPAN_ID_BYTES);
    columns.linkTraceState.string(linkTraceState.source, linkTraceState.start, linkTraceState.length);
    columns.endLink();
  }

  /** Reads an attribute of an event or link into its column. */
  private putAttribute(end: number, column: AttributesColumn): void {
    const { value } = this.attribute;
    const key = this.attribute.read(end, column.keys);
    if (key >= 0) column.put(key, value.source, value.start, value.length);
  }

  /** Writes the span's trace id, which is usually that of the row before. */
  private writeTraceId(start: number, length: number): void {
    const { lastTraceId } = this;
    const { traceId } = this.columns;
    if (length === TRACE_ID_BYTES && lastTraceId >= 0 && sameBytes(this.cursor.source.view, lastTraceId, start, TRACE_ID_BYTES)) {
      traceId.copy(traceId, traceId.length - TRACE_ID_STRING, TRACE_ID_STRING);
      return;
    }
    this.writeId(traceId, start, length, TRACE_ID_BYTES);
    this.lastTraceId = length === TRACE_ID_BYTES ? start : -1;
  }

  /** Writes an id in hex; an id of zeros counts as absent. Rejects the span if the id is neither empty nor of `bytes` bytes. */
  private writeId(column: ByteBuffer, start: number, length: number, bytes: number): void {
    const { source } = this.cursor;
    if (length === 0 || (source.view.getInt32(start, true) === 0 && isZero(source, start, length))) column.byte(0);
    else writeHexString(column, source, start, length);
    if (length !== bytes && length !== 0) this.rejections.reject('bad_id');
  }
}

function isZero(source: ByteBuffer, start: number, length: number): boolean {
  for (let at = start; at < start + length; at++) if (source.bytes[at] !== 0) return false;
  return true;
}
