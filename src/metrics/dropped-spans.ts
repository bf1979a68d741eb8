import { Injectable } from '@nestjs/common';
import { DeadLetters } from '../dead-letters/dead-letters.service.ts';
import { RequestTotals } from '../telemetry/request-counts.ts';

/** Counts acknowledged spans that are not in ClickHouse and will not be inserted automatically. */
@Injectable()
export class DroppedSpans {
  constructor(
    private readonly totals: RequestTotals,
    private readonly deadLetters: DeadLetters,
  ) {}

  /** The number of spans since the start, by reason. */
  byReason(): [reason: string, spans: number][] {
    return [['dead_letter', this.deadLetters.keptRows], ...Object.entries(this.totals.now.dropped)];
  }
}
