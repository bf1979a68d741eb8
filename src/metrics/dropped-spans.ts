import { Injectable } from '@nestjs/common';
import { DeadLetters } from '../dead-letters/dead-letters.service.ts';
import { RequestTotals } from '../telemetry/request-counts.ts';
import { IngestThreads } from '../threads/ingest-threads.ts';

/** Counts acknowledged spans that are not in ClickHouse and will not be inserted automatically. */
@Injectable()
export class DroppedSpans {
  constructor(
    private readonly totals: RequestTotals,
    private readonly deadLetters: DeadLetters,
    private readonly threads: IngestThreads,
  ) {}

  /** The number of spans since the start, by reason. */
  byReason(): [reason: string, spans: number][] {
    return [
      ['dead_letter', this.deadLetters.keptRows],
      ...Object.entries(this.totals.now.dropped),
      ['thread_ended', this.threads.lostSpans],
    ];
  }
}
