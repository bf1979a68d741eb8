/*
 * What ClickHouse says of an exception
 *
 *   Code: 6. DB::Exception: Cannot parse string 'x' as UInt64: … : while pushing to view db.v. (CANNOT_PARSE_TEXT) (version 26.7.2.1)
 *   ├──────────────────────┤├───────────────────────────────────┤├────────────────────────────┤├─────────────────────────────────────┤
 *            head               quotes what senders have sent              phrases                           foot
 *
 * Only the ends are ClickHouse's own words: a span may hold the text of any exception. Quoted values end with a quote, or
 * with … where they are cut.
 */

/**
 * Where an exception arose: while our block was read; in a view, behind a Distributed table, where rows may be stored
 * already; elsewhere in the server. Unknown if the text is not whole.
 */
export type Origin = 'reading' | 'view' | 'shard' | 'server' | 'unknown';

const HEAD = /^Code: (\d+)\. DB::\w*Exception: /;
const FROM_SHARD = /^Code: \d+\. DB::\w*Exception: Received from /;
const FOOT = String.raw`\. \([A-Z0-9_]+\) \(version [^()'…]+(?:\([^()'…]+\))?\)\s*$`;
const STEPS = String.raw`(?:: While executing \w+)*`;
const NAME = '(?:`[^`]+`|\\w+)';

const WHOLE = new RegExp(FOOT);
const WHILE_READING = new RegExp(`: While executing Native${STEPS}${FOOT}`);
const IN_VIEW = new RegExp(String.raw`: while pushing to view ${NAME}\.${NAME}(?: \([^()'…]+\))?${STEPS}${FOOT}`);
const AFTER_SHARDS = new RegExp(String.raw`Insertion status:\n(?:Wrote [^\n]+\n)*${FOOT}`);

/** The table's own name, and the row's number in what was inserted, from 1; what follows quotes the row's values. */
const VIOLATED_AT = new RegExp(
  String.raw`^Code: 469\. DB::Exception: Constraint ${NAME} for table \S+(?: \([0-9a-f-]+\))? is violated at row (\d+)\. `,
);

/** The number, from 0, of the row that violates a constraint, if the exception names one. A hint: it may be of another insert. */
export function violatedRow(text: string): number | undefined {
  const row = VIOLATED_AT.exec(text)?.[1];
  return row === undefined ? undefined : Number(row) - 1;
}

/** The exception's number; undefined if this is not the text of one. */
export function codeOf(text: string): string | undefined {
  return HEAD.exec(text)?.[1];
}

export function originOf(text: string): Origin {
  if (!HEAD.test(text) || !WHOLE.test(text)) return 'unknown';
  if (FROM_SHARD.test(text) || AFTER_SHARDS.test(text)) return 'shard';
  if (IN_VIEW.test(text)) return 'view';
  return WHILE_READING.test(text) ? 'reading' : 'server';
}
