/** Why a span is stored with another value than it came with. */
export type AdjustReason = 'no_start' | 'late_time' | 'unknown_enum';

/** Spans that are stored, but not quite as they came; in words for their sender. */
export interface Adjustment {
  readonly reason: AdjustReason;
  readonly spans: number;
  readonly message: string;
}

/** Spans by reason. */
export type AdjustedSpans = Record<AdjustReason, number>;

/** The last moment that ClickHouse's DateTime64(9) has: 2^63 − 1 nanoseconds after 1970, 2262-04-11 23:47:16.854775807. */
export const LAST_TIME = { low: -1, high: 0x7fff_ffff } as const;

/** One for each reason that there is. */
export function adjustments({ no_start: noStart, late_time: lateTime, unknown_enum: unknownEnum }: Readonly<AdjustedSpans>): Adjustment[] {
  const all: Adjustment[] = [
    { reason: 'no_start', spans: noStart, message: `${spans(noStart, 'has', 'have')} no start time: the end is taken for it.` },
    {
      reason: 'late_time',
      spans: lateTime,
      message: `${spans(lateTime, 'has', 'have')} a time after 2262-04-11, the last that can be stored, which is taken instead.`,
    },
    {
      reason: 'unknown_enum',
      spans: unknownEnum,
      message: `${spans(unknownEnum, 'has', 'have')} a kind or status code of an unknown name, which is stored as unspecified.`,
    },
  ];
  return all.filter((each) => each.spans > 0);
}

function spans(count: number, singular: string, plural: string): string {
  return count === 1 ? `1 span ${singular}` : `${count} spans ${plural}`;
}
