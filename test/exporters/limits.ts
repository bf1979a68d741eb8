import { type ExpectedRow, expectedRows } from '../support/oracle/expected-rows.ts';
import { encodeRequest, type OtlpRequest } from '../support/oracle/otlp-request.ts';
import { inOrder } from '../support/oracle/stored-rows.ts';
import { type Compared, TARGET } from './sender.ts';
import { BEYOND_DOUBLES, BEYOND_SIMPLE, NOT_FINITE } from './spans.ts';

/** Something that spans can have and a sender can't send. */
export interface Limit {
  readonly what: string;
  readonly without: (row: ExpectedRow) => ExpectedRow;
}

export const NO_LARGE_INTEGERS: Limit = { what: 'integers beyond 2^53', without: (row) => withoutKeys(row, BEYOND_DOUBLES) };
/** Its JSON has null for them. */
export const ONLY_FINITE: Limit = { what: 'NaN and infinity', without: (row) => withoutKeys(row, NOT_FINITE) };
export const NO_LINK_TRACE_STATE: Limit = {
  what: 'trace states of links',
  without: (row) => ({ ...row, 'Links.TraceState': row['Links.TraceState'].map(() => '') }),
};

export const SIMPLE_VALUES: Limit = { what: 'bytes, maps, lists of several types', without: (row) => withoutKeys(row, BEYOND_SIMPLE) };

/** A sender that is given ids and times: its rows are those of the request, without what it can't send. */
export function comparedWithout(request: OtlpRequest, limits: readonly Limit[]): Compared {
  const rows = inOrder(expectedRows(encodeRequest(request), TARGET, 'hive'));
  return {
    expected: limits.reduce((remaining, { without }) => remaining.map(without), rows),
    comparable: inOrder,
    leftOut: limits.map(({ what }) => what).join(', '),
  };
}

function withoutKeys(row: ExpectedRow, keys: readonly string[]): ExpectedRow {
  const without = (map: Record<string, string>) => Object.fromEntries(Object.entries(map).filter(([key]) => !keys.includes(key)));
  return {
    ...row,
    SpanAttributes: without(row.SpanAttributes),
    'Events.Attributes': row['Events.Attributes'].map(without),
    'Links.Attributes': row['Links.Attributes'].map(without),
  };
}
