/*
 * The text of a ClickHouse exception
 *
 *   Code: 6. DB::Exception: Cannot parse string 'x' as UInt64: … : while pushing to view db.v. (CANNOT_PARSE_TEXT) (version 26.7.2.1)
 *   ├──────────────────────┤├───────────────────────────────────┤├────────────────────────────┤├─────────────────────────────────────┤
 *            head               quotes what senders have sent              phrases                           foot
 *
 * Only the start and the end are ClickHouse's own words: a span may contain the text of any exception. Quoted values end with a quote,
 * or with … where they are truncated.
 */

/**
 * Where ClickHouse raised an exception. `reading`: while it parsed our block. `view`, `shard`: in a materialized view or behind a
 * Distributed table, when rows may be stored already. `server`: elsewhere. `unknown`: the text is incomplete.
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

/** The constraint, the table, and the number of the row in the insert, from 1. The text after it quotes the row's values. */
const VIOLATED_AT = new RegExp(
  String.raw`^Code: 469\. DB::Exception: Constraint ${NAME} for table \S+(?: \([0-9a-f-]+\))? is violated at row (\d+)\. `,
);

/** The index, from 0, of the row that violates a constraint, if the exception names one. Only a hint: the text may quote another insert. */
export function violatedRow(text: string): number | undefined {
  const row = VIOLATED_AT.exec(text)?.[1];
  return row === undefined ? undefined : Number(row) - 1;
}

/** The exception's code as text, e.g. '60'; undefined if the text is no exception. */
export function codeOf(text: string): string | undefined {
  return HEAD.exec(text)?.[1];
}

/** Where the exception with this text was raised, read from its start and end only. */
export function originOf(text: string): Origin {
  if (!HEAD.test(text) || !WHOLE.test(text)) return 'unknown';
  if (FROM_SHARD.test(text) || AFTER_SHARDS.test(text)) return 'shard';
  if (IN_VIEW.test(text)) return 'view';
  return WHILE_READING.test(text) ? 'reading' : 'server';
}
