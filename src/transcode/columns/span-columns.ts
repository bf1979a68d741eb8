import { ByteBuffer } from '../bytes/byte-buffer.ts';
import { MalformedRequest } from '../bytes/malformed-request.ts';
import type { Slice } from '../bytes/slice.ts';
import { type AdjustedSpans, LAST_TIME } from './adjustment.ts';
import { AttributesColumn } from './attributes-column.ts';
import { dialects, type Dialect, type DialectName } from './dialect.ts';
import { EnumColumn } from './enum-column.ts';
import type { KnownResource } from './known-resource.ts';
import { LowCardinalityColumn } from './low-cardinality-column.ts';
import { OffsetsColumn } from './offsets-column.ts';
import { ResourceAttributesColumn } from './resource-attributes-column.ts';
import { NO_RULES, type TranscodeRules } from './transcode-rules.ts';

const TARGET_KEY = 'hive.target_id';
const SERVICE_KEY = 'service.name';
/*
 * An empty span, event or link takes two bytes of a request, but up to a hundred in the columns. So the request's size limits their
 * number. Those with times have more bytes than these minimums; a request may have ALWAYS_ALLOWED smaller ones.
 */
const MIN_SPAN_BYTES = 16;
const MIN_NESTED_BYTES = 8;
const ALWAYS_ALLOWED = 4096;
const MAX_SPANS = 1 << 20;
/** How far a sender's clock may be ahead of the collector's. */
const MAX_AHEAD_MS = 86_400_000;
/** The first entry of both key dictionaries in every block: the key that no client may write. */
const TARGET_KEY_INDEX = 0;
/** The second entry of the resources' key dictionary. */
const SERVICE_KEY_INDEX = 1;

/**
 * The open columns that spans are transcoded into, until they are sealed into a block. The transcoders write a span's ids, texts,
 * attributes, events and links, and then call `endSpan`. Values that the spans of a scope or resource share are written when it ends,
 * for all spans at once, as they may be before or after the spans in the request.
 *
 * A malformed request changes nothing: `beginRequest` marks the columns' lengths, and `rollback` returns to them.
 */
export class SpanColumns {
  readonly dialect: Dialect;
  readonly timestamp = new ByteBuffer(16_384);
  readonly traceId = new ByteBuffer(65_536);
  readonly spanId = new ByteBuffer(32_768);
  readonly parentSpanId = new ByteBuffer(32_768);
  readonly traceState = new ByteBuffer(4096);
  readonly spanName = new LowCardinalityColumn();
  readonly spanKind: EnumColumn;
  readonly serviceName = new LowCardinalityColumn();
  readonly resourceAttributes = new ResourceAttributesColumn();
  readonly scopeName = new LowCardinalityColumn();
  readonly scopeVersion = new LowCardinalityColumn();
  readonly spanAttributes = new AttributesColumn();
  readonly duration = new ByteBuffer(16_384);
  readonly statusCode: EnumColumn;
  readonly statusMessage = new ByteBuffer(4096);
  readonly events = new OffsetsColumn();
  readonly eventTimestamp = new ByteBuffer(4096);
  readonly eventName = new LowCardinalityColumn();
  readonly eventAttributes = new AttributesColumn();
  readonly links = new OffsetsColumn();
  readonly linkTraceId = new ByteBuffer(4096);
  readonly linkSpanId = new ByteBuffer(4096);
  readonly linkTraceState = new ByteBuffer(4096);
  readonly linkAttributes = new AttributesColumn();

  /** Spans in the open columns. */
  rows = 0;
  /** Rows of the open request without any time, and its spans that are stored with a changed value. */
  untimedRows = 0;
  readonly adjusted: AdjustedSpans = { no_start: 0, late_time: 0, unknown_enum: 0 };
  /** Whether the open span, or one of its events, has a time that can't be stored. */
  private late = false;
  private readonly targetKey = new ByteBuffer(16);
  private readonly serviceKey = new ByteBuffer(16);
  private readonly targetId = new ByteBuffer(64);
  private markedRows = 0;
  private keptAgeMs = NO_RULES.keptAgeMs;
  private maxAgeMs = NO_RULES.maxSpanAgeMs;
  /** Upper 32 bits of the first and last start time that are accepted, in steps of 4.3 s. */
  private oldestHigh = 0;
  private newestHigh = 0;
  private maxSpans = 0;
  private maxNested = 0;
  private resourceStart = 0;
  private scopeStart = 0;
  private eventCount = 0;
  private linkCount = 0;
  private resourceHasTarget = false;
  private readonly columns: readonly { mark(): void; rollback(): void; reset(): void }[];

  constructor(dialect: DialectName) {
    this.dialect = dialects[dialect];
    this.spanKind = new EnumColumn(this.dialect.spanKinds);
    this.statusCode = new EnumColumn(this.dialect.statusCodes);
    this.targetKey.ascii(TARGET_KEY);
    this.serviceKey.ascii(SERVICE_KEY);
    this.columns = [
      this.timestamp,
      this.traceId,
      this.spanId,
      this.parentSpanId,
      this.traceState,
      this.spanName,
      this.spanKind,
      this.serviceName,
      this.resourceAttributes,
      this.scopeName,
      this.scopeVersion,
      this.spanAttributes,
      this.duration,
      this.statusCode,
      this.statusMessage,
      this.events,
      this.eventTimestamp,
      this.eventName,
      this.eventAttributes,
      this.links,
      this.linkTraceId,
      this.linkSpanId,
      this.linkTraceState,
      this.linkAttributes,
    ];
    this.reset();
  }

  /** Sets the rules for the next requests. */
  setRules({ maxSpanAgeMs, keptAgeMs, textColumns }: TranscodeRules): void {
    this.maxAgeMs = maxSpanAgeMs;
    this.keptAgeMs = keptAgeMs;
    this.resourceAttributes.keys.textOnly = textColumns.includes('ResourceAttributes');
    this.spanAttributes.keys.textOnly = textColumns.includes('SpanAttributes');
    this.eventAttributes.keys.textOnly = textColumns.includes('Events.Attributes');
    this.linkAttributes.keys.textOnly = textColumns.includes('Links.Attributes');
  }

  /** Empties the columns. They keep their memory for the next block, except for unusually large buffers. */
  reset(): void {
    for (const column of this.columns) column.reset();
    this.rows = 0;
    this.eventCount = 0;
    this.linkCount = 0;
    this.resourceAttributes.keys.dictionary.indexOf(this.targetKey, 0, this.targetKey.length);
    this.resourceAttributes.keys.dictionary.indexOf(this.serviceKey, 0, this.serviceKey.length);
    this.spanAttributes.keys.dictionary.indexOf(this.targetKey, 0, this.targetKey.length);
  }

  /**
   * Starts a request.
   * @param targetId the value of `hive.target_id` in each of its rows
   * @param bodyBytes the request's size, which limits how many rows it may have
   */
  beginRequest(targetId: string, bodyBytes: number): void {
    this.maxSpans = Math.min(MAX_SPANS, ALWAYS_ALLOWED + Math.floor(bodyBytes / MIN_SPAN_BYTES));
    this.maxNested = ALWAYS_ALLOWED + Math.floor(bodyBytes / MIN_NESTED_BYTES);
    this.resourceAttributes.beginRequest(bodyBytes);
    const nowMs = Date.now();
    this.oldestHigh = upperHalf(nowMs - Math.min(this.maxAgeMs, this.keptAgeMs));
    this.newestHigh = this.maxAgeMs === Infinity ? Infinity : upperHalf(nowMs + MAX_AHEAD_MS);
    this.targetId.length = 0;
    this.targetId.utf8(targetId);
    for (const column of this.columns) column.mark();
    this.markedRows = this.rows;
    this.resetCounts();
  }

  /** Removes everything since `beginRequest`. The request can then be transcoded again. */
  rollback(): void {
    for (const column of this.columns) column.rollback();
    this.rows = this.markedRows;
    this.eventCount = this.events.last;
    this.linkCount = this.links.last;
    this.resetCounts();
  }

  /** Starts a resource: the next spans belong to it. */
  beginResource(): void {
    this.resourceStart = this.rows;
    this.resourceHasTarget = this.dialect.targetInEveryResource;
  }

  /** Adds an attribute to the open resource. One that sets the target is replaced. @param key the number of its key in the dictionary */
  resourceAttribute(key: number, value: ByteBuffer, start: number, length: number): void {
    if (key === TARGET_KEY_INDEX) this.resourceHasTarget = true;
    else this.resourceAttributes.put(key, value, start, length);
  }

  /** Whether the open resource has no attributes yet. */
  get resourceIsEmpty(): boolean {
    return this.resourceAttributes.count === 0 && this.resourceHasTarget === this.dialect.targetInEveryResource;
  }

  /** Copies the open resource's attributes to `resource`, for `repeatResource`. */
  saveResource(resource: KnownResource): void {
    resource.count = this.resourceAttributes.count;
    resource.hasTarget = this.resourceHasTarget;
    this.resourceAttributes.copyRow(resource.keys, resource.values);
  }

  /** Gives the open resource the attributes of an earlier one. */
  repeatResource({ count, keys, values, hasTarget }: KnownResource): void {
    if (hasTarget) this.resourceHasTarget = true;
    for (let i = 0; i < count; i++) this.resourceAttributes.putIndex(keys[i], values[i]);
  }

  /** Writes the values that the spans of the open resource share. */
  endResource(): void {
    const { resourceAttributes, serviceName } = this;
    const rows = this.rows - this.resourceStart;
    const { dictionary } = resourceAttributes.values;
    const name = resourceAttributes.valueOf(SERVICE_KEY_INDEX);
    if (name < 0) serviceName.appendTimes(rows, dictionary.keys, 0, 0);
    else serviceName.appendTimes(rows, dictionary.keys, dictionary.start(name), dictionary.length(name));
    if (this.resourceHasTarget) resourceAttributes.put(TARGET_KEY_INDEX, this.targetId, 0, this.targetId.length);
    resourceAttributes.endRows(rows);
  }

  /**
   * Whether a start time is accepted. Each day is a partition, and each partition of an insert becomes a part: an insert of a thousand
   * days would time out. A span without a time counts as one of 1970.
   */
  private isTimely(startHigh: number): boolean {
    const high = startHigh >>> 0;
    const takesAnyTime = this.maxAgeMs === Infinity && this.keptAgeMs === Infinity;
    return takesAnyTime || (high >= this.oldestHigh && high <= this.newestHigh);
  }

  /** Starts a scope: the next spans belong to it. */
  beginScope(): void {
    this.scopeStart = this.rows;
  }

  /** Writes the values that the spans of the open scope share. */
  endScope(name: Slice, version: Slice): void {
    const rows = this.rows - this.scopeStart;
    this.scopeName.appendTimes(rows, name.source, name.start, name.length);
    this.scopeVersion.appendTimes(rows, version.source, version.start, version.length);
  }

  /** Adds an attribute to the open span. One that sets the target is ignored. @param key the number of its key in the dictionary */
  spanAttribute(key: number, value: ByteBuffer, start: number, length: number): void {
    if (key !== TARGET_KEY_INDEX) this.spanAttributes.put(key, value, start, length);
  }

  /**
   * Ends an event, whose name and attributes the transcoder has written. Its time is nanoseconds in signed 32-bit halves.
   * @throws MalformedRequest when the request has more events than its size allows
   */
  endEvent(timeLow: number, timeHigh: number): void {
    if (timeHigh < 0) {
      this.late = true;
      this.eventTimestamp.u32Pair(LAST_TIME.low, LAST_TIME.high);
    } else {
      this.eventTimestamp.u32Pair(timeLow, timeHigh);
    }
    this.eventAttributes.endRow();
    const events = ++this.eventCount - this.events.markedLast;
    if (events > this.maxNested) throw new MalformedRequest(`a request of its size may hold ${this.maxNested} events`);
  }

  /**
   * Ends a link, whose ids, trace state and attributes the transcoder has written.
   * @throws MalformedRequest when the request has more links than its size allows
   */
  endLink(): void {
    this.linkAttributes.endRow();
    const links = ++this.linkCount - this.links.markedLast;
    if (links > this.maxNested) throw new MalformedRequest(`a request of its size may hold ${this.maxNested} links`);
  }

  /**
   * Ends a row, whose ids, texts, attributes, events and links the transcoder has written. Times are nanoseconds in signed 32-bit
   * halves.
   * @returns whether the span's time is accepted; otherwise the row must be removed
   * @throws MalformedRequest when the request has more spans than its size allows
   */
  endSpan(kind: number, statusCode: number, startLow: number, startHigh: number, endLow: number, endHigh: number): boolean {
    if (startHigh === 0 && startLow === 0) {
      if (endHigh === 0 && endLow === 0) this.untimedRows++;
      else return this.endWithoutStart(kind, statusCode, endLow, endHigh);
    }
    // Half of all UInt64 times are after ClickHouse's last one. So would be an end that is calculated from a longer duration.
    if ((startHigh | endHigh) < 0) return this.endLate(kind, statusCode, startLow, startHigh, endLow, endHigh);
    if (this.late) {
      this.late = false;
      this.adjusted.late_time++;
    }
    this.spanKind.push(kind);
    this.statusCode.push(statusCode);
    this.timestamp.u32Pair(startLow, startHigh);
    const borrow = endLow >>> 0 < startLow >>> 0 ? 1 : 0;
    if (endHigh >>> 0 < (startHigh >>> 0) + borrow) this.duration.u32Pair(0, 0);
    else this.duration.u32Pair(endLow - startLow, endHigh - startHigh - borrow);
    this.spanAttributes.put(TARGET_KEY_INDEX, this.targetId, 0, this.targetId.length);
    this.spanAttributes.endRow();
    this.events.push(this.eventCount);
    this.links.push(this.linkCount);
    if (++this.rows - this.markedRows > this.maxSpans) throw new MalformedRequest(`a request of its size may hold ${this.maxSpans} spans`);
    return this.isTimely(startHigh);
  }

  private endWithoutStart(kind: number, statusCode: number, endLow: number, endHigh: number): boolean {
    this.adjusted.no_start++;
    return this.endSpan(kind, statusCode, endLow, endHigh, endLow, endHigh);
  }

  private endLate(kind: number, statusCode: number, startLow: number, startHigh: number, endLow: number, endHigh: number): boolean {
    this.late = true;
    const start = startHigh < 0 ? LAST_TIME : { low: startLow, high: startHigh };
    const end = endHigh < 0 ? LAST_TIME : { low: endLow, high: endHigh };
    return this.endSpan(kind, statusCode, start.low, start.high, end.low, end.high);
  }

  private resetCounts(): void {
    const { adjusted } = this;
    this.untimedRows = 0;
    this.late = false;
    adjusted.no_start = 0;
    adjusted.late_time = 0;
    adjusted.unknown_enum = 0;
  }
}

/** The upper 32 bits of a time in nanoseconds. */
function upperHalf(timeMs: number): number {
  return Math.floor((timeMs * 1e6) / 2 ** 32);
}
