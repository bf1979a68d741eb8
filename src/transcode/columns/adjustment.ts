/** Why a span is stored with a changed value. */
export const ADJUST_REASONS = ['no_start', 'late_time', 'unknown_enum'] as const;
export type AdjustReason = (typeof ADJUST_REASONS)[number];

/** Spans that are stored with a changed value, with a message for their sender. */
export interface Adjustment {
  readonly reason: AdjustReason;
  readonly spans: number;
  readonly message: string;
}

/** Spans by reason. */
export type AdjustedSpans = Record<AdjustReason, number>;

/** ClickHouse's last DateTime64(9), 2^63 − 1 nanoseconds after 1970 (2262-04-11 23:47:16.854775807), in signed 32-bit halves. */
export const LAST_TIME = { low: -1, high: 0x7fff_ffff } as const;

/** One adjustment for each reason that any span has. */
export function adjustments({ no_start: noStart, late_time: lateTime, unknown_enum: unknownEnum }: Readonly<AdjustedSpans>): Adjustment[] {
  const all: Adjustment[] = [
    { reason: 'no_start', spans: noStart, message: `${spans(noStart, 'has', 'have')} no start time: the end time is stored instead.` },
    {
      reason: 'late_time',
      spans: lateTime,
      message: `${spans(lateTime, 'has', 'have')} a time after 2262-04-11: the last time that can be stored is stored instead.`,
    },
    {
      reason: 'unknown_enum',
      spans: unknownEnum,
      message: `${spans(unknownEnum, 'has', 'have')} a kind or status code with an unknown name: it is stored as unspecified.`,
    },
  ];
  return all.filter((each) => each.spans > 0);
}

function spans(count: number, singular: string, plural: string): string {
  return count === 1 ? `1 span ${singular}` : `${count} spans ${plural}`;
}
