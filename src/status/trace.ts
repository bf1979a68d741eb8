/** The columns of a span's row that the waterfall needs. Times are ns since 1970 as text: a number would lose digits. */
export interface SpanRow {
  readonly TraceId: string;
  readonly SpanId: string;
  readonly ParentSpanId: string;
  readonly SpanName: string;
  readonly ServiceName: string;
  readonly StatusCode: string;
  readonly start: string;
  readonly duration: string;
}

/** A bar of the waterfall. Times are in ms from the start of the trace. */
export interface TraceSpan {
  readonly id: string;
  readonly name: string;
  readonly service: string;
  /** The number of its ancestors. */
  readonly depth: number;
  readonly startMs: number;
  readonly durationMs: number;
  readonly failed: boolean;
}

/** The waterfall of a trace. */
export interface Trace {
  readonly traceId: string;
  readonly startedAtMs: number;
  readonly durationMs: number;
  /** Each span follows its parent. */
  readonly spans: readonly TraceSpan[];
}

/** The sort key, then a trace's id, name, service, start, duration, number of spans and of failed spans. Times in ns. */
type TraceRow = readonly [string, string, string, string, string, string, string, string];

/** The result of the list query: the number of traces, and some of them. 64-bit numbers are text. */
export interface ListRow {
  readonly total: string;
  readonly failed: string;
  readonly newest: readonly TraceRow[];
  readonly newestFailed: readonly TraceRow[];
  readonly slowest: readonly TraceRow[];
}

/** A line of the list of traces. */
export interface TraceSummary {
  readonly traceId: string;
  /** The name of its first span without a parent. */
  readonly name: string;
  readonly service: string;
  readonly startedAtMs: number;
  readonly durationMs: number;
  readonly spans: number;
  readonly failedSpans: number;
}

/** The number of traces, and some of them: the newest, the newest failed and the slowest. */
export interface TraceList {
  readonly total: number;
  readonly failed: number;
  /** The last query failed or timed out: there may be newer traces. */
  readonly isOld: boolean;
  /** In no particular order. */
  readonly traces: readonly TraceSummary[];
}

export type Attributes = Readonly<Record<string, unknown>>;

/** The columns of a span's row that the waterfall does not need. */
export interface DetailsRow {
  readonly SpanKind: string;
  readonly StatusCode: string;
  readonly StatusMessage: string;
  readonly ScopeName: string;
  readonly ScopeVersion: string;
  readonly SpanAttributes: Attributes;
  readonly ResourceAttributes: Attributes;
  readonly eventNames: readonly string[];
  /** In ns from the span's start. */
  readonly eventTimes: readonly string[];
  readonly eventAttributes: readonly Attributes[];
}

type Pairs = readonly (readonly [string, string])[];

/** A span's details, as the page shows them. */
export interface SpanDetails {
  readonly kind: string;
  readonly status: string;
  readonly statusMessage: string;
  readonly scope: string;
  readonly attributes: Pairs;
  readonly resource: Pairs;
  /** `afterMs`: ms from the span's start. */
  readonly events: readonly { readonly name: string; readonly afterMs: number; readonly attributes: Pairs }[];
}

/** Most of a span that the page shows, in characters, attributes and events: senders may put megabytes into a span. */
const MAX_TEXT_LENGTH = 4_000;
const MAX_PAIRS = 200;
const MAX_EVENTS = 100;

/** Makes the list of traces: each trace once, although it may be in several lists of the query. */
export function listOf({ total, failed, newest, newestFailed, slowest }: ListRow): TraceList {
  const traces = [...newest, ...newestFailed, ...slowest].map(([, traceId, name, service, start, duration, spans, failedSpans]) => ({
    traceId,
    name: shortened(name),
    service: shortened(service),
    startedAtMs: Number(BigInt(start) / 1_000_000n),
    durationMs: Number(duration) / 1e6,
    spans: Number(spans),
    failedSpans: Number(failedSpans),
  }));
  const byId = new Map(traces.map((trace) => [trace.traceId, trace]));
  return { total: Number(total), failed: Number(failed), isOld: false, traces: [...byId.values()] };
}

/** Makes the details of a span, cut to the limits of the page. */
export function detailsOf(row: DetailsRow): SpanDetails {
  return {
    kind: row.SpanKind,
    status: row.StatusCode,
    statusMessage: shortened(row.StatusMessage),
    scope: shortened([row.ScopeName, row.ScopeVersion].filter((text) => text !== '').join(' ')),
    attributes: pairsOf(row.SpanAttributes),
    resource: pairsOf(row.ResourceAttributes),
    events: row.eventNames.slice(0, MAX_EVENTS).map((name, index) => ({
      name: shortened(name),
      afterMs: Number(row.eventTimes[index]) / 1e6,
      attributes: pairsOf(row.eventAttributes[index]),
    })),
  };
}

/** The attributes, sorted by key. Values of a column of type JSON may be other than text. */
function pairsOf(attributes: Attributes): Pairs {
  const pairs = Object.entries(attributes).map(([key, value]) => [shortened(key), shortened(textOf(value))] as const);
  return pairs.toSorted(([a], [b]) => (a < b ? -1 : 1)).slice(0, MAX_PAIRS);
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function shortened(text: string): string {
  return text.length <= MAX_TEXT_LENGTH ? text : `${text.slice(0, MAX_TEXT_LENGTH)}…`;
}

/** Makes the waterfall of a trace. @param rows its spans by start time. Spans without a parent among them are at the top level */
export function traceOf(rows: readonly SpanRow[]): Trace {
  const ids = new Set(rows.map(({ SpanId }) => SpanId));
  const children = Map.groupBy(rows, ({ SpanId, ParentSpanId }) => (ids.has(ParentSpanId) && ParentSpanId !== SpanId ? ParentSpanId : ''));
  const startedAt = BigInt(rows[0].start);
  const spans: TraceSpan[] = [];
  const placed = new Set<SpanRow>();
  // An explicit stack instead of recursion: the nesting depth is up to the sender.
  const waiting = (children.get('') ?? []).map((row) => ({ row, depth: 0 })).toReversed();
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { row, depth } = next;
    // A span that is stored twice would otherwise add its children twice.
    if (placed.has(row)) continue;
    placed.add(row);
    spans.push(spanOf(row, depth, startedAt));
    for (const child of (children.get(row.SpanId) ?? []).toReversed()) waiting.push({ row: child, depth: depth + 1 });
  }
  // The rest: spans whose parents form a cycle.
  for (const row of rows) if (!placed.has(row)) spans.push(spanOf(row, 0, startedAt));
  const durationMs = spans.reduce((end, span) => Math.max(end, span.startMs + span.durationMs), 0);
  return { traceId: rows[0].TraceId, startedAtMs: Number(startedAt / 1_000_000n), durationMs, spans };
}

function spanOf(row: SpanRow, depth: number, startedAt: bigint): TraceSpan {
  return {
    id: row.SpanId,
    name: shortened(row.SpanName),
    service: shortened(row.ServiceName),
    depth,
    startMs: Number(BigInt(row.start) - startedAt) / 1e6,
    durationMs: Number(row.duration) / 1e6,
    failed: /error/i.test(row.StatusCode),
  };
}
