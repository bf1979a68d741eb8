import { Injectable } from '@nestjs/common';
import { DeadLetters } from '../dead-letters/dead-letters.service.ts';
import { IngestService } from '../ingest/ingest.service.ts';

/** Spans that were acknowledged, and that ClickHouse does not have and will not get by itself. */
@Injectable()
export class DroppedSpans {
  constructor(
    private readonly ingest: IngestService,
    private readonly deadLetters: DeadLetters,
  ) {}

  byReason(): [reason: string, spans: number][] {
    return [['dead_letter', this.deadLetters.keptRows], ...Object.entries(this.ingest.dropped)];
  }
}
