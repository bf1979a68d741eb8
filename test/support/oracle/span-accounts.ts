import { expect } from 'vitest';
import type { Metrics } from '../servers/collector.ts';

/** The numbers of spans in /metrics (docs/operations.md). */
export interface SpanAccounts {
  readonly accepted: number;
  readonly refused: number;
  readonly rejected: number;
  readonly recovered: number;
  readonly storedAfterRefusal: number;
  readonly joined: number;
  readonly sent: number;
  readonly failed: number;
  readonly buffered: number;
  readonly dropped: number;
}

/** Reads the numbers from a scrape. */
export function accountsOf(metrics: Metrics): SpanAccounts {
  const sum = (name: string) =>
    [...metrics].filter(([series]) => series.startsWith(`${name}{`)).reduce((total, [, value]) => total + value, 0);
  const value = (name: string) => metrics.get(name) ?? Number.NaN;
  return {
    accepted: sum('otelcol_receiver_accepted_spans_total'),
    refused: sum('otelcol_receiver_refused_spans_total'),
    rejected: sum('hive_collector_rejected_spans_total'),
    recovered: value('hive_collector_disk_buffer_found_spans_total'),
    storedAfterRefusal: value('hive_collector_overdue_spans_total'),
    joined: value('hive_collector_joined_spans_total'),
    sent: sum('otelcol_exporter_sent_spans_total'),
    failed: sum('otelcol_exporter_send_failed_spans_total'),
    buffered: value('hive_collector_buffered_spans'),
    dropped: sum('hive_collector_dropped_spans_total'),
  };
}

/** Expects that every span that came in was sent, dropped or joined, or is in the buffer. */
export function expectBalance({ accepted, recovered, storedAfterRefusal, joined, sent, buffered, dropped }: SpanAccounts): void {
  expect(accepted + recovered + storedAfterRefusal).toBe(sent + buffered + dropped + joined);
}
