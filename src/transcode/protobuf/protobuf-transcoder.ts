import { AttributeValue } from '../bytes/attribute-value.ts';
import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { writeHexString } from '../bytes/hex.ts';
import { sameBytes } from '../bytes/same-bytes.ts';
import { appendRepaired, repairedLength } from '../bytes/utf8-repair.ts';
import type { LowCardinalityColumn } from '../columns/low-cardinality-column.ts';
import type { RejectedSpans, RejectReason } from '../columns/rejection.ts';
import type { SpanColumns } from '../columns/span-columns.ts';
import { KnownAttributes } from '../known/known-attributes.ts';
import { KnownResources } from '../known/known-resources.ts';
import { otherProtobuf } from '../other-signals.ts';
import { ProtobufCursor } from './protobuf-cursor.ts';
import { Document, readAnyValue, writeDocument } from './protobuf-value.ts';

const TRACE_ID_BYTES = 16;
const SPAN_ID_BYTES = 8;
/** A trace id in its column: a length and the digits. */
const TRACE_ID_STRING = 1 + 2 * TRACE_ID_BYTES;
/** instrumentation_library_spans as OTLP 0.15 to 0.19 number it: 1000, with a length. */
const LIBRARY_SPANS_TAG = (1000 << 3) | 2;

/**
 * Protobuf bytes → span columns. Fields may come in any order, more than once (the last wins, messages and lists are
 * merged) and be unknown; a known field with another wire type counts as unknown. Field numbers are those of
 * opentelemetry-proto 1.x; case labels are tags: number << 3 | wire type.
 */
export class ProtobufTranscoder {
  private readonly columns: SpanColumns;
  private readonly cursor: ProtobufCursor;
  private readonly value = new AttributeValue();
  private readonly document = new Document();
  private readonly resources = new KnownResources();
  private readonly attributes = new KnownAttributes();
  private readonly repairedKey = new ByteBuffer(64);
  private keyStart = 0;
  private keyLength = 0;
  /** Where in the request the trace id of the row written last is, if it is one. */
  private lastTraceId = -1;
  private spanNumber = 0;
  private skipped: RejectedSpans = new Map();
  private rejected: Map<number, RejectReason> | undefined;
  private readonly maxSpanBytes: number;

  constructor(columns: SpanColumns, maxSpanBytes: number) {
    this.columns = columns;
    this.maxSpanBytes = maxSpanBytes;
    this.cursor = new ProtobufCursor(this.value.scratch);
  }

  /**
   * ExportTraceServiceRequest: 1 resource_spans: ResourceSpans[]
   * @param begin where the request begins in `body`, at whose end it ends
   * @param skipped spans to leave out
   * @returns spans that are too large or have ids of a wrong length, if there are any: they must be left out, in a second pass
   * @throws MalformedRequest
   */
  transcode(body: ByteBuffer, begin: number, skipped: RejectedSpans): RejectedSpans | undefined {
    const { cursor } = this;
    cursor.source = body;
    cursor.begin = begin;
    cursor.at = begin;
    this.lastTraceId = -1;
    this.spanNumber = 0;
    this.skipped = skipped;
    this.rejected = undefined;
    const end = body.length;
    while (cursor.at < end) {
      const tag = cursor.tag();
      if (tag === 0x0a) this.resourceSpans(cursor.fieldEnd(end));
      else cursor.skip(tag, end);
    }
    cursor.expectEnd(end);
    return this.rejected;
  }

  /** Says what a request is that is none for traces, if it looks like it. */
  otherSignal(body: ByteBuffer, begin: number): string | undefined {
    return otherProtobuf(body, begin);
  }

  /** Forgets what was learned from earlier requests: their bytes, or what they put into the columns, are not there any more. */
  forget(): void {
    this.resources.reset();
    this.attributes.reset();
  }

  /** Gives back the memory that a large request took. */
  release(): void {
    this.value.release();
    this.repairedKey.reset();
  }

  /**
   * ResourceSpans: 1 resource: Resource, 2 scope_spans: ScopeSpans[], 3 schema_url: string,
   *    1000 instrumentation_library_spans: InstrumentationLibrarySpans[], which are ScopeSpans under the name of before OTLP 0.15
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

  /** Resource: 1 attributes: KeyValue[], 2 dropped_attributes_count: uint32 */
  private resource(end: number): void {
    const { cursor, columns, resources, value } = this;
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
      const key = this.attribute(cursor.fieldEnd(end), columns.resourceAttributes.keys);
      if (key >= 0) columns.resourceAttribute(key, value.source, value.start, value.length);
    }
    cursor.expectEnd(end);
    if (isFirst) resources.remember(columns, cursor.source.view, start, end - start);
  }

  /** ScopeSpans: 1 scope: InstrumentationScope, 2 spans: Span[], 3 schema_url: string */
  private scopeSpans(end: number): void {
    const { cursor, columns } = this;
    const name = { source: cursor.source, start: 0, length: 0 };
    const version = { source: cursor.source, start: 0, length: 0 };
    columns.beginScope();
    while (cursor.at < end) {
      const tag = cursor.tag();
      if (tag === 0x12) {
        this.span(cursor.fieldEnd(end));
        continue;
      }
      if (tag !== 0x0a) {
        cursor.skip(tag, end);
        continue;
      }
      // InstrumentationScope: 1 name: string, 2 version: string, 3 attributes: KeyValue[], 4 dropped_attributes_count: uint32
      const scopeEnd = cursor.fieldEnd(end);
      while (cursor.at < scopeEnd) {
        const scopeTag = cursor.tag();
        if (scopeTag === 0x0a || scopeTag === 0x12) {
          const field = scopeTag === 0x0a ? name : version;
          const fieldEnd = cursor.fieldEnd(scopeEnd);
          field.start = cursor.at;
          field.length = fieldEnd - cursor.at;
          cursor.at = fieldEnd;
        } else {
          cursor.skip(scopeTag, scopeEnd);
        }
      }
      cursor.expectEnd(scopeEnd);
    }
    cursor.expectEnd(end);
    columns.endScope(name, version);
  }

  /**
   * Span:
   *    1 trace_id: bytes(16)        5 name: string                     9 attributes: KeyValue[]   13 links: Link[]
   *    2 span_id: bytes(8)          6 kind: enum                      10 dropped_attributes_count 14 dropped_links_count
   *    3 trace_state: string        7 start_time_unix_nano: fixed64   11 events: Event[]          15 status: Status
   *    4 parent_span_id: bytes(8)   8 end_time_unix_nano: fixed64     12 dropped_events_count     16 flags: fixed32
   */
  private span(end: number): void {
    const { cursor, columns } = this;
    const number = this.spanNumber++;
    if (this.skipped.size > 0 && this.skipped.has(number)) {
      cursor.at = end;
      return;
    }
    if (end - cursor.at > this.maxSpanBytes) {
      this.reject(number, 'too_large');
      cursor.at = end;
      return;
    }
    let traceIdStart = 0;
    let traceIdLength = 0;
    let spanIdStart = 0;
    let spanIdLength = 0;
    let parentStart = 0;
    let parentLength = 0;
    let stateStart = 0;
    let stateLength = 0;
    let nameStart = 0;
    let nameLength = 0;
    let kind = 0;
    let startLow = 0;
    let startHigh = 0;
    let endLow = 0;
    let endHigh = 0;
    let statusCode = 0;
    let messageStart = 0;
    let messageLength = 0;
    let goodLinks = true;
    let inAttributes = false;

    while (cursor.at < end) {
      const tag = cursor.tag();
      switch (tag) {
        case 0x0a: {
          const fieldEnd = cursor.fieldEnd(end);
          traceIdStart = cursor.at;
          traceIdLength = fieldEnd - traceIdStart;
          cursor.at = fieldEnd;
          break;
        }
        case 0x12: {
          const fieldEnd = cursor.fieldEnd(end);
          spanIdStart = cursor.at;
          spanIdLength = fieldEnd - spanIdStart;
          cursor.at = fieldEnd;
          break;
        }
        case 0x1a: {
          const fieldEnd = cursor.fieldEnd(end);
          stateStart = cursor.at;
          stateLength = fieldEnd - stateStart;
          cursor.at = fieldEnd;
          break;
        }
        case 0x22: {
          const fieldEnd = cursor.fieldEnd(end);
          parentStart = cursor.at;
          parentLength = fieldEnd - parentStart;
          cursor.at = fieldEnd;
          break;
        }
        case 0x2a: {
          const fieldEnd = cursor.fieldEnd(end);
          nameStart = cursor.at;
          nameLength = fieldEnd - nameStart;
          cursor.at = fieldEnd;
          break;
        }
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
        case 0x5a:
          this.event(cursor.fieldEnd(end));
          break;
        case 0x6a:
          goodLinks = this.link(cursor.fieldEnd(end)) && goodLinks;
          break;
        case 0x7a: {
          // Status: 2 message: string, 3 code: enum
          const statusEnd = cursor.fieldEnd(end);
          while (cursor.at < statusEnd) {
            const statusTag = cursor.tag();
            if (statusTag === 0x12) {
              const fieldEnd = cursor.fieldEnd(statusEnd);
              messageStart = cursor.at;
              messageLength = fieldEnd - messageStart;
              cursor.at = fieldEnd;
            } else if (statusTag === 0x18) {
              cursor.varint();
              statusCode = cursor.low;
            } else {
              cursor.skip(statusTag, statusEnd);
            }
          }
          cursor.expectEnd(statusEnd);
          break;
        }
        default:
          cursor.skip(tag, end);
      }
    }
    cursor.expectEnd(end);

    const { source } = cursor;
    const goodIds = isId(traceIdLength, TRACE_ID_BYTES) && isId(spanIdLength, SPAN_ID_BYTES) && isId(parentLength, SPAN_ID_BYTES);
    this.traceId(traceIdStart, traceIdLength);
    this.id(columns.spanId, spanIdStart, spanIdLength);
    this.id(columns.parentSpanId, parentStart, parentLength);
    columns.traceState.string(source, stateStart, stateLength);
    columns.spanName.append(source, nameStart, nameLength);
    columns.statusMessage.string(source, messageStart, messageLength);
    const isTimely = columns.endSpan(kind, statusCode, startLow, startHigh, endLow, endHigh);
    if (!goodIds || !goodLinks) this.reject(number, 'bad_id');
    else if (!isTimely) this.reject(number, 'bad_time');
  }

  private reject(span: number, reason: RejectReason): void {
    (this.rejected ??= new Map()).set(span, reason);
  }

  private spanAttribute(end: number): void {
    const { cursor, columns, value, attributes } = this;
    const { source, at: begin } = cursor;
    const found = attributes.lookUp(source.view, begin, end - begin);
    if (found === 'attribute' && attributes.length === end - begin) {
      const { key, valueOffset } = attributes;
      cursor.at = end;
      if (key >= 0) {
        if (valueOffset >= 0) columns.spanAttribute(key, source, begin + valueOffset, attributes.valueLength);
        else columns.spanAttribute(key, attributes.texts, ~valueOffset, attributes.valueLength);
      }
      attributes.advance(key, attributes.valueLength);
      return;
    }
    const head = found === 'nothing' ? 0 : attributes.keyBytes;
    const key = this.attribute(end, columns.spanAttributes.keys, head, attributes.key);
    if (key >= 0) columns.spanAttribute(key, value.source, value.start, value.length);
    // Remembered if it starts with its key, as it does unless somebody means to be odd.
    attributes.remember(source, begin, this.keyStart === begin + 2 ? this.keyLength + 2 : 0, end - begin, key, value);
    attributes.advance(key, value.length);
  }

  /** Event: 1 time_unix_nano: fixed64, 2 name: string, 3 attributes: KeyValue[], 4 dropped_attributes_count: uint32 */
  private event(end: number): void {
    const { cursor, columns, value } = this;
    let low = 0;
    let high = 0;
    let nameStart = 0;
    let nameLength = 0;
    while (cursor.at < end) {
      const tag = cursor.tag();
      switch (tag) {
        case 0x09:
          cursor.fixed64(end);
          low = cursor.low;
          high = cursor.high;
          break;
        case 0x12: {
          const fieldEnd = cursor.fieldEnd(end);
          nameStart = cursor.at;
          nameLength = fieldEnd - nameStart;
          cursor.at = fieldEnd;
          break;
        }
        case 0x1a: {
          const key = this.attribute(cursor.fieldEnd(end), columns.eventAttributes.keys);
          if (key >= 0) columns.eventAttributes.put(key, value.source, value.start, value.length);
          break;
        }
        default:
          cursor.skip(tag, end);
      }
    }
    cursor.expectEnd(end);
    columns.eventName.append(cursor.source, nameStart, nameLength);
    columns.endEvent(low, high);
  }

  /**
   * Link: 1 trace_id: bytes(16), 2 span_id: bytes(8), 3 trace_state: string, 4 attributes: KeyValue[],
   * 5 dropped_attributes_count: uint32, 6 flags: fixed32
   * @returns whether its ids have the right lengths
   */
  private link(end: number): boolean {
    const { cursor, columns, value } = this;
    let traceIdStart = 0;
    let traceIdLength = 0;
    let spanIdStart = 0;
    let spanIdLength = 0;
    let stateStart = 0;
    let stateLength = 0;
    while (cursor.at < end) {
      const tag = cursor.tag();
      switch (tag) {
        case 0x0a: {
          const fieldEnd = cursor.fieldEnd(end);
          traceIdStart = cursor.at;
          traceIdLength = fieldEnd - traceIdStart;
          cursor.at = fieldEnd;
          break;
        }
        case 0x12: {
          const fieldEnd = cursor.fieldEnd(end);
          spanIdStart = cursor.at;
          spanIdLength = fieldEnd - spanIdStart;
          cursor.at = fieldEnd;
          break;
        }
        case 0x1a: {
          const fieldEnd = cursor.fieldEnd(end);
          stateStart = cursor.at;
          stateLength = fieldEnd - stateStart;
          cursor.at = fieldEnd;
          break;
        }
        case 0x22: {
          const key = this.attribute(cursor.fieldEnd(end), columns.linkAttributes.keys);
          if (key >= 0) columns.linkAttributes.put(key, value.source, value.start, value.length);
          break;
        }
        default:
          cursor.skip(tag, end);
      }
    }
    cursor.expectEnd(end);
    this.id(columns.linkTraceId, traceIdStart, traceIdLength);
    this.id(columns.linkSpanId, spanIdStart, spanIdLength);
    columns.linkTraceState.string(cursor.source, stateStart, stateLength);
    columns.endLink();
    return isId(traceIdLength, TRACE_ID_BYTES) && isId(spanIdLength, SPAN_ID_BYTES);
  }

  /**
   * KeyValue: 1 key: string, 2 value: AnyValue. Its text is then in `value`.
   * @param head bytes that are known to be its key, whose number is then `knownKey`
   * @returns the key's number in the dictionary of `keys`, or -1 for an attribute that is left out as it has no value
   */
  private attribute(end: number, keys: LowCardinalityColumn, head = 0, knownKey = -1): number {
    const { cursor, columns, value, document } = this;
    const { dialect } = columns;
    let known = head > 0 ? knownKey : -1;
    // Behind a tag and a length of a byte each.
    this.keyStart = head > 0 ? cursor.at + 2 : 0;
    this.keyLength = head > 0 ? head - 2 : 0;
    cursor.at += head;
    document.tag = 0;
    value.clear();
    while (cursor.at < end) {
      const tag = cursor.tag();
      if (tag === 0x0a) {
        const fieldEnd = cursor.fieldEnd(end);
        this.keyStart = cursor.at;
        this.keyLength = fieldEnd - cursor.at;
        cursor.at = fieldEnd;
        known = -1;
      } else if (tag === 0x12) {
        readAnyValue(cursor, cursor.fieldEnd(end), dialect, value, document);
      } else {
        cursor.skip(tag, end);
      }
    }
    cursor.expectEnd(end);
    if (document.tag !== 0) {
      value.clear();
      writeDocument(value.scratch, cursor, document, dialect, 1);
      value.setScratch(0);
      document.clear();
    }
    if (!value.present && !dialect.keepEmptyValues) return -1;
    if (keys.textOnly) {
      this.repairValue();
      if (known < 0) return this.repairedKeyIn(keys);
    }
    if (known >= 0) return known;
    return keys.dictionary.indexOf(cursor.source, this.keyStart, this.keyLength);
  }

  /** The other kinds of values are always UTF-8. */
  private repairValue(): void {
    const { value } = this;
    const { source, start, length, scratch } = value;
    if (source === scratch) return;
    const repaired = repairedLength(source.bytes, start, start + length);
    if (repaired < 0) return;
    scratch.length = 0;
    appendRepaired(scratch, source, start, length, repaired);
    value.setScratch(0);
  }

  /** @returns the key's number in the dictionary */
  private repairedKeyIn(keys: LowCardinalityColumn): number {
    const { keyStart, keyLength, repairedKey } = this;
    const { source } = this.cursor;
    const repaired = repairedLength(source.bytes, keyStart, keyStart + keyLength);
    if (repaired < 0) return keys.dictionary.indexOf(source, keyStart, keyLength);
    repairedKey.length = 0;
    appendRepaired(repairedKey, source, keyStart, keyLength, repaired);
    return keys.dictionary.indexOf(repairedKey, 0, repaired);
  }

  /** Writes a trace id; most often it is the one of the row before. */
  private traceId(start: number, length: number): void {
    const { lastTraceId } = this;
    const { source } = this.cursor;
    const { traceId } = this.columns;
    if (length === TRACE_ID_BYTES && lastTraceId >= 0 && sameBytes(source.view, lastTraceId, start, TRACE_ID_BYTES)) {
      traceId.copy(traceId, traceId.length - TRACE_ID_STRING, TRACE_ID_STRING);
      return;
    }
    this.id(traceId, start, length);
    this.lastTraceId = length === TRACE_ID_BYTES ? start : -1;
  }

  /** Writes an id; one of zeros is none. */
  private id(column: ByteBuffer, start: number, length: number): void {
    const { source } = this.cursor;
    if (source.view.getInt32(start, true) === 0 && isZero(source, start, length)) column.byte(0);
    else writeHexString(column, source, start, length);
  }
}

function isId(length: number, bytes: number): boolean {
  return length === bytes || length === 0;
}

function isZero(source: ByteBuffer, start: number, length: number): boolean {
  for (let at = start; at < start + length; at++) if (source.bytes[at] !== 0) return false;
  return true;
}
