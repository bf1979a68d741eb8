/** A row of the table, as far as the waterfall needs it. Times in ns, as text: they have more digits than a number. */
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

/** One bar of a waterfall. Times in ms, from the start of the trace. */
export interface TraceSpan {
  readonly name: string;
  readonly service: string;
  /** How many spans it is in. */
  readonly depth: number;
  readonly startMs: number;
  readonly durationMs: number;
  readonly failed: boolean;
}

export interface Trace {
  readonly traceId: string;
  readonly startedAtMs: number;
  readonly durationMs: number;
  /** Each after the one it is in. */
  readonly spans: readonly TraceSpan[];
}

/** The waterfall of a trace's spans, which are in the order they started. Those whose parent is not there stand at the top. */
export function traceOf(rows: readonly SpanRow[]): Trace {
  const ids = new Set(rows.map(({ SpanId }) => SpanId));
  const children = Map.groupBy(rows, ({ SpanId, ParentSpanId }) => (ids.has(ParentSpanId) && ParentSpanId !== SpanId ? ParentSpanId : ''));
  const startedAt = BigInt(rows[0].start);
  const spans: TraceSpan[] = [];
  const placed = new Set<SpanRow>();
  // A stack of what is to be placed, not recursion: a sender may nest as deep as it likes.
  const waiting = (children.get('') ?? []).map((row) => ({ row, depth: 0 })).toReversed();
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { row, depth } = next;
    // The same span sent twice would bring its children twice.
    if (placed.has(row)) continue;
    placed.add(row);
    spans.push(spanOf(row, depth, startedAt));
    for (const child of (children.get(row.SpanId) ?? []).toReversed()) waiting.push({ row: child, depth: depth + 1 });
  }
  // What is in a circle of parents.
  for (const row of rows) if (!placed.has(row)) spans.push(spanOf(row, 0, startedAt));
  const durationMs = spans.reduce((end, span) => Math.max(end, span.startMs + span.durationMs), 0);
  return { traceId: rows[0].TraceId, startedAtMs: Number(startedAt / 1_000_000n), durationMs, spans };
}

function spanOf(row: SpanRow, depth: number, startedAt: bigint): TraceSpan {
  return {
    name: row.SpanName,
    service: row.ServiceName,
    depth,
    startMs: Number(BigInt(row.start) - startedAt) / 1e6,
    durationMs: Number(row.duration) / 1e6,
    failed: /error/i.test(row.StatusCode),
  };
}
