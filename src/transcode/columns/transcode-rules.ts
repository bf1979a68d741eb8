/** What transcoders go by that may change while the collector runs: the table is known only once ClickHouse is there. */
export interface TranscodeRules {
  /** Spans that started longer ago, or a day ahead of the collector's clock or more, are left out. Infinity takes any time. */
  readonly maxSpanAgeMs: number;
  /** So are spans that started longer ago than this: the table's TTL would drop their rows at once. Infinity keeps them. */
  readonly keptAgeMs: number;
  /** Columns of attributes that hold nothing but UTF-8 (JSON columns): other text is repaired there (utf8-repair.ts). */
  readonly textColumns: readonly AttributesColumnName[];
}

export const ATTRIBUTES_COLUMNS = ['ResourceAttributes', 'SpanAttributes', 'Events.Attributes', 'Links.Attributes'] as const;
export type AttributesColumnName = (typeof ATTRIBUTES_COLUMNS)[number];

/** Any time, any bytes. */
export const NO_RULES: TranscodeRules = { maxSpanAgeMs: Infinity, keptAgeMs: Infinity, textColumns: [] };
