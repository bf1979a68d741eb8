import type { ByteBuffer } from './bytes/byte-buffer.ts';
import { MalformedRequest } from './bytes/malformed-request.ts';
import { BRACE, BRACKET, JsonCursor } from './json/json-cursor.ts';
import { ProtobufCursor } from './protobuf/protobuf-cursor.ts';

/*
 * Recognizes requests that were sent to the wrong place: OTLP logs, metrics and profiles, and the JSON of Jaeger and Zipkin. As
 * unknown fields are skipped, many of them can be parsed as traces. So a request is only checked here if it is malformed, or has no span
 * with a time: the records of other signals have no time in the fields where a span has its own.
 *
 * The messages have the same outer form: Export…ServiceRequest { 1 Resource…[] { 1 resource, 2 Scope…[] { 1 scope, 2 records } } }.
 *
 *   field   Span                  LogRecord               Metric                         Profile
 *       1   trace_id: bytes       time: fixed64           name: string                   sample_type: message
 *       2   span_id: bytes        severity_number: enum   description: string            samples: message[]
 *       3   trace_state: string   severity_text: string   unit: string                   time: fixed64
 *       5   name: string          body: AnyValue          gauge: { 1 data_points }       period_type: message
 *       6   kind: enum            attributes: KeyValue[]
 *       7   start_time: fixed64   dropped_attributes: uint32   sum: { 1 data_points, 2 temporality: enum, 3 … }
 *       8   end_time: fixed64     flags: fixed32
 *       9   attributes            trace_id: bytes         histogram: { 1 data_points, 2 temporality: enum }
 *      10   dropped: uint32       span_id: bytes          exponential_histogram: the same
 *      11   events: { 1 fixed64 } observed_time: fixed64  summary: { 1 data_points }
 *      12   dropped: uint32       event_name: string      metadata: KeyValue[]
 */

const LOGS =
  'it looks like logs (ExportLogsServiceRequest). This collector accepts only traces: send them to /v1/logs of a collector for logs';
const METRICS =
  'it looks like metrics (ExportMetricsServiceRequest). ' +
  'This collector accepts only traces: send them to /v1/metrics of a collector for metrics';
const PROFILES =
  'it looks like profiles (ExportProfilesServiceRequest). This collector accepts only traces: send them to a collector for profiles';
const JAEGER =
  "it looks like Jaeger's JSON. Send OTLP instead: an OTLP exporter, or put an OpenTelemetry Collector with a jaeger receiver in between";
const ZIPKIN =
  "it looks like Zipkin's JSON. Send OTLP instead: an OTLP exporter, or put an OpenTelemetry Collector with a zipkin receiver in between";
const UNWRAPPED = 'it looks like a part of an ExportTraceServiceRequest: send the whole message, with resourceSpans at the top level';

/** Records that are checked: all records of a request are of one kind. */
const MAX_RECORDS = 64;
/** Members of an object that are checked. */
const MAX_KEYS = 64;

/** The message for a Protobuf request, malformed or without a span with a time, that looks like another signal; else undefined. */
export function otherProtobuf(body: ByteBuffer, begin: number): string | undefined {
  const cursor = new ProtobufCursor(body);
  cursor.at = begin;
  let records = 0;
  try {
    for (const resourceEnd of messages(cursor, body.length, 0x0a)) {
      for (const scopeEnd of messages(cursor, resourceEnd, 0x12)) {
        for (const recordEnd of messages(cursor, scopeEnd, 0x12)) {
          const found = recordKind(cursor, recordEnd);
          if (found !== undefined) return found === 'span' ? undefined : found;
          if (++records === MAX_RECORDS) return undefined;
        }
      }
    }
  } catch (error) {
    if (!(error instanceof MalformedRequest)) throw error;
  }
  return undefined;
}

/** Goes through the fields with the tag `wanted`: yields the end of each, with the cursor at its start. */
function* messages(cursor: ProtobufCursor, end: number, wanted: number): Generator<number> {
  while (cursor.at < end) {
    const tag = cursor.tag();
    if (tag !== wanted) {
      cursor.skip(tag, end);
      continue;
    }
    const fieldEnd = cursor.fieldEnd(end);
    yield fieldEnd;
    cursor.at = fieldEnd;
  }
}

const ANY_VALUE_TAGS = new Set([0x0a, 0x10, 0x18, 0x21, 0x2a, 0x32, 0x3a]);

/** @returns 'span' for a span, the message for a record of another signal, or undefined if it is not known */
function recordKind(cursor: ProtobufCursor, end: number): string | undefined {
  let hasText = false;
  let found: string | undefined;
  while (cursor.at < end) {
    const tag = cursor.tag();
    const start = cursor.at;
    cursor.skip(tag, end);
    // A start, an end, or a trace id. A metric's name, in the same field as the trace id, is text.
    if (tag === 0x39 || tag === 0x41 || (tag === 0x0a && isTraceId(cursor, start))) return 'span';
    if (tag === 0x0a) hasText = true;
    found ??= fieldKind(cursor, tag, start, hasText);
  }
  return found;
}

/** @param hasText whether there was a field 1 that is text */
function fieldKind(cursor: ProtobufCursor, tag: number, start: number, hasText: boolean): string | undefined {
  switch (tag) {
    case 0x09: // time
    case 0x10: // severity
    case 0x32: // attributes
    case 0x38: // dropped attributes
    case 0x45: // flags
    case 0x59: // observed time
      return LOGS;
    case 0x19: // time
      return PROFILES;
    case 0x3a: // a sum
      return METRICS;
    case 0x2a: // a gauge, a body, or a span's name
      if (hasText) return tagsOf(cursor, start).every((each) => each === 0x0a) ? METRICS : undefined;
      return tagsOf(cursor, start).every((each) => ANY_VALUE_TAGS.has(each)) ? LOGS : undefined;
    case 0x4a: // a histogram, or an attribute
      return tagsOf(cursor, start).includes(0x10) ? METRICS : undefined;
    case 0x52: // an exponential histogram, or a span id
      return hasText ? METRICS : LOGS;
    case 0x5a: // a summary, or an event
      return tagsOf(cursor, start).includes(0x0a) ? METRICS : undefined;
    default:
      return undefined;
  }
}

/** Whether the field whose length is at `start`, and at whose end the cursor is, has 16 bytes that are not all visible ASCII. */
function isTraceId(cursor: ProtobufCursor, start: number): boolean {
  const value = cursor.source.bytes.subarray(start, cursor.at);
  return value.length === 17 && value[0] === 16 && value.subarray(1).some((byte) => byte <= 0x20 || byte >= 0x7f);
}

const NO_MESSAGE = [-1];

/** The tags in the message whose length is at `start`, and at whose end the cursor is. NO_MESSAGE if it is not a message, or empty. */
function tagsOf(cursor: ProtobufCursor, start: number): readonly number[] {
  const end = cursor.at;
  const tags: number[] = [];
  cursor.at = start;
  try {
    cursor.fieldEnd(end);
    while (cursor.at < end && tags.length < MAX_KEYS) {
      const tag = cursor.tag();
      cursor.skip(tag, end);
      tags.push(tag);
    }
    return tags.length > 0 ? tags : NO_MESSAGE;
  } catch (error) {
    if (!(error instanceof MalformedRequest)) throw error;
    return NO_MESSAGE;
  } finally {
    cursor.at = end;
  }
}

/**
 * The message for a JSON request, malformed or without a span with a time, that looks like another format; undefined if it may be traces.
 * @param start where its text starts
 * @param mayBeTraces whether `resourceSpans` means that it has traces. False if it is known to have no spans
 */
export function otherJson(body: ByteBuffer, start: number, mayBeTraces: boolean): string | undefined {
  const cursor = new JsonCursor(body);
  cursor.at = start;
  const keys = new Set<string>();
  try {
    if (cursor.peek() === BRACKET) {
      if (!cursor.open(BRACKET)) return undefined;
      collectKeys(cursor, keys);
      return keys.has('traceId') && keys.has('id') ? ZIPKIN : jaegerOf(keys);
    }
    collectKeys(cursor, keys);
  } catch (error) {
    if (!(error instanceof MalformedRequest)) throw error;
  }
  if (mayBeTraces && (keys.has('resourceSpans') || keys.has('resource_spans'))) return undefined;
  if (keys.has('resourceLogs') || keys.has('resource_logs')) return LOGS;
  if (keys.has('resourceMetrics') || keys.has('resource_metrics')) return METRICS;
  if (keys.has('resourceProfiles') || keys.has('resource_profiles')) return PROFILES;
  if (keys.has('data.traceID') || keys.has('data.spans')) return JAEGER;
  const jaeger = jaegerOf(keys);
  if (jaeger !== undefined) return jaeger;
  if (keys.has('resourceSpans') || keys.has('resource_spans')) return undefined;
  return ['scopeSpans', 'scope_spans', 'spans'].some((key) => keys.has(key)) ? UNWRAPPED : undefined;
}

/** Jaeger's message if the keys are those of its traces, spans, or batches (as its agents and collectors send). */
function jaegerOf(keys: ReadonlySet<string>): string | undefined {
  const isBatch = keys.has('batch.process') || keys.has('batches.process') || (keys.has('process') && keys.has('spans'));
  return isBatch || keys.has('traceID') ? JAEGER : undefined;
}

/**
 * Adds the keys of the object at the cursor to `keys`, and of some members the keys in them, as `member.key`. Of a member that is a
 * list, the first item counts.
 */
function collectKeys(cursor: JsonCursor, keys: Set<string>, prefix = ''): void {
  if (!cursor.open(BRACE)) return;
  let left = MAX_KEYS;
  do {
    cursor.key();
    const key = cursor.length < 40 ? cursor.text() : '';
    keys.add(prefix + key);
    const value = cursor.at;
    if (prefix === '' && ['data', 'batch', 'batches'].includes(key)) {
      if (cursor.peek() !== BRACKET || cursor.open(BRACKET)) if (cursor.peek() === BRACE) collectKeys(cursor, keys, `${key}.`);
      cursor.at = value;
    }
    cursor.skip();
  } while (--left > 0 && cursor.more(BRACE));
}
