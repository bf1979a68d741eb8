/** Why a span is left out while the rest of its request is stored. */
export const REJECT_REASONS = ['bad_id', 'bad_time', 'too_large', 'refused'] as const;
export type RejectReason = (typeof REJECT_REASONS)[number];

/** The spans of a request that are left out, by their index in it. */
export type RejectedSpans = ReadonlyMap<number, RejectReason>;

/** Spans that are left out for one reason, with a message for their sender. */
export interface Rejection {
  readonly reason: RejectReason;
  readonly spans: number;
  readonly message: string;
}

/** Counts the spans of a request, and collects those to leave out. The second pass over the request skips them. */
export class SpanRejections {
  /** The spans rejected in this pass; undefined if there are none. */
  found: Map<number, RejectReason> | undefined;
  private skipped: RejectedSpans = new Map();
  private span = -1;

  /** @param skipped the spans that this pass over the request leaves out */
  start(skipped: RejectedSpans): void {
    this.skipped = skipped;
    this.found = undefined;
    this.span = -1;
  }

  /** Advances to the next span. @returns whether it is skipped */
  skipsNext(): boolean {
    this.span++;
    return this.skipped.size > 0 && this.skipped.has(this.span);
  }

  /** Rejects the current span. Of several reasons the first counts, except that `too_large` always does. */
  reject(reason: RejectReason): void {
    this.found ??= new Map();
    if (reason === 'too_large' || !this.found.has(this.span)) this.found.set(this.span, reason);
  }
}

/** One rejection for each reason that any span has. */
export function rejections(rejected: RejectedSpans, maxSpanBytes: number): Rejection[] {
  const reasons = [...rejected.values()];
  return REJECT_REASONS.map((reason) => {
    const spans = reasons.filter((each) => each === reason).length;
    return { reason, spans, message: explain(reason, spans, maxSpanBytes) };
  }).filter(({ spans }) => spans > 0);
}

/** The rejection of spans that ClickHouse refuses for their values. */
export function refusedSpans(spans: number): Rejection {
  const [were, its] = spans === 1 ? ['span was', 'its'] : ['spans were', 'their'];
  return { reason: 'refused', spans, message: `${spans} ${were} rejected by ClickHouse: the table does not accept ${its} values.` };
}

function explain(reason: RejectReason, spans: number, maxSpanBytes: number): string {
  if (reason === 'bad_time') {
    return (
      `${spans} ${spans === 1 ? 'span' : 'spans'} started longer ago than SPAN_MAX_AGE_DAYS or the table's TTL allows, ` +
      `or more than a day ahead of the collector's clock, or ${spans === 1 ? 'has' : 'have'} no time at all.`
    );
  }
  if (reason === 'too_large') {
    return `${spans} ${spans === 1 ? 'span is' : 'spans are'} larger than ${maxSpanBytes / 1024} KB (SPAN_MAX_SIZE_KB).`;
  }
  const have = spans === 1 ? 'span has' : 'spans have';
  return `${spans} ${have} an id that is not hex or has the wrong length: a trace id has 16 bytes, a span id 8.`;
}
