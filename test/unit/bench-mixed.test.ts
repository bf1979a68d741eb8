import { expect, test } from 'vitest';
import { judge } from '../../bench/mixed.ts';
import type { Sent, StoredTraces } from '../support/clients/load.ts';

/* What `node bench/hostile.ts --mixed` makes of answers and stored traces. A trace has seven spans. */

const WHOLE = { spans: 7, distinct: 7 };
const request = (traceId: string, outcome: number | string): Sent => ({ traceIds: [traceId], outcome, retryAfter: undefined, sentAtMs: 0 });
const stored = (traces: Record<string, { spans: number; distinct: number }>): StoredTraces => new Map(Object.entries(traces));

test('all is well when every good request is answered and stored once, and nothing else is', () => {
  const { isGood, counts } = judge(
    [request('a', 200), request('b', 200)],
    [request('c', 403), request('d', 200), request('e', 'no answer')],
    stored({ a: WHOLE, b: WHOLE, d: WHOLE, other: { spans: 9, distinct: 1 } }),
  );
  expect(isGood).toBe(true);
  expect(counts).toMatchObject({
    'good requests sent': 2,
    'good requests answered 200': 2,
    'good requests stored exactly once': 2,
    'requests of attacks': 3,
    'requests of attacks answered 200': 1,
  });
});

test.each([
  ['a good request answered 503', [request('a', 503)], [], {}, 'good requests answered otherwise'],
  ['a good request stored twice', [request('a', 200)], [], { a: { spans: 14, distinct: 7 } }, 'good requests stored twice'],
  ['one span of a good request stored twice', [request('a', 200)], [], { a: { spans: 8, distinct: 7 } }, 'good requests stored twice'],
  ['a good request stored without an answer', [request('a', 'ECONNRESET')], [], { a: WHOLE }, 'requests stored without a 200'],
  ['a span of a refused request stored', [], [request('a', 403)], { a: { spans: 1, distinct: 1 } }, 'requests stored without a 200'],
  ["an attacker's 200 without its spans", [], [request('a', 200)], {}, 'and of these not stored exactly once'],
])('%s is counted, and fails it', (_what, good, hostile, traces, counted) => {
  const { isGood, counts } = judge(good, hostile, stored(traces));
  expect(isGood).toBe(false);
  expect(counts[counted]).toBe(1);
});

test.each([
  ['in part', { a: { spans: 6, distinct: 6 } }],
  ['not at all', {}],
])('a good request that is answered 200 and stored %s fails it', (_how, traces) => {
  expect(judge([request('a', 200)], [], stored(traces))).toMatchObject({
    isGood: false,
    counts: { 'good requests stored exactly once': 0 },
  });
});
