/** Rules that may change at run time: the table is known only once ClickHouse is reachable. */
export interface TranscodeRules {
  /** Spans that started longer ago, or more than a day ahead of the collector's clock, are rejected. Infinity accepts any time. */
  readonly maxSpanAgeMs: number;
  /** Spans that started longer ago than the table's TTL, which would drop their rows at once, are rejected. Infinity: no TTL. */
  readonly keptAgeMs: number;
  /** Columns of attributes that hold UTF-8 only, as they are of type JSON: other text is repaired (utf8-repair.ts). */
  readonly textColumns: readonly AttributesColumnName[];
}

export const ATTRIBUTES_COLUMNS = ['ResourceAttributes', 'SpanAttributes', 'Events.Attributes', 'Links.Attributes'] as const;
export type AttributesColumnName = (typeof ATTRIBUTES_COLUMNS)[number];

/** Accepts any time, and stores any bytes. */
export const NO_RULES: TranscodeRules = { maxSpanAgeMs: Infinity, keptAgeMs: Infinity, textColumns: [] };
