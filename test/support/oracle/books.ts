import { expect } from 'vitest';
import type { Metrics } from '../servers/collector.ts';

/** What /metrics says of the spans, by the names of docs/operations.md. */
export interface Books {
  readonly accepted: number;
  readonly refused: number;
  readonly rejected: number;
  readonly found: number;
  readonly overdue: number;
  readonly joined: number;
  readonly sent: number;
  readonly failed: number;
  readonly buffered: number;
  readonly dropped: number;
}

export function booksOf(metrics: Metrics): Books {
  const sum = (name: string) =>
    [...metrics].filter(([series]) => series.startsWith(`${name}{`)).reduce((total, [, value]) => total + value, 0);
  const value = (name: string) => metrics.get(name) ?? Number.NaN;
  return {
    accepted: sum('otelcol_receiver_accepted_spans_total'),
    refused: sum('otelcol_receiver_refused_spans_total'),
    rejected: sum('hive_collector_rejected_spans_total'),
    found: value('hive_collector_disk_buffer_found_spans_total'),
    overdue: value('hive_collector_overdue_spans_total'),
    joined: value('hive_collector_joined_spans_total'),
    sent: sum('otelcol_exporter_sent_spans_total'),
    failed: sum('otelcol_exporter_send_failed_spans_total'),
    buffered: value('hive_collector_buffered_spans'),
    dropped: sum('hive_collector_dropped_spans_total'),
  };
}

export function expectBalance({ accepted, found, overdue, joined, sent, buffered, dropped }: Books): void {
  expect(accepted + found + overdue).toBe(sent + buffered + dropped + joined);
}
