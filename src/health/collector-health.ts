import { Injectable } from '@nestjs/common';
import { HealthIndicatorService, type HealthIndicatorResult } from '@nestjs/terminus';
import { InsertWorkers } from '../batch/insert-workers.ts';
import { version } from '../config/version.ts';
import { DeadLetters } from '../dead-letters/dead-letters.service.ts';
import { DiskBuffer } from '../disk-buffer/disk-buffer.service.ts';
import { IngestService } from '../ingest/ingest.service.ts';
import { BlockQueue } from '../queue/block-queue.ts';
import { MemoryBudget } from '../queue/memory-budget.ts';
import { MemoryPressure } from '../queue/memory-pressure.ts';
import { StorageService } from '../storage/storage.service.ts';
import { RequestTotals } from '../telemetry/request-counts.ts';
import { IngestThreads } from '../threads/ingest-threads.ts';

/** The answers of the health endpoints. They never send a request to ClickHouse. */
@Injectable()
export class CollectorHealth {
  constructor(
    private readonly indicators: HealthIndicatorService,
    private readonly ingest: IngestService,
    private readonly requests: RequestTotals,
    private readonly storage: StorageService,
    private readonly queue: BlockQueue,
    private readonly workers: InsertWorkers,
    private readonly budget: MemoryBudget,
    private readonly pressure: MemoryPressure,
    private readonly diskBuffer: DiskBuffer,
    private readonly deadLetters: DeadLetters,
    private readonly threads: IngestThreads,
  ) {}

  /** The state of the collector's parts. The status is always up: problems are in the details. */
  describe(): HealthIndicatorResult {
    const { waiting } = this.queue;
    return this.indicators.check('collector').up({
      version,
      clickhouse: this.storage.describe(),
      queue: { blocks: waiting.blocks, spans: waiting.rows, bytes: waiting.bytes, pinnedSpans: this.workers.pinnedSpans },
      memory: { usedBytes: this.budget.usedBytes, limitBytes: this.budget.limitBytes },
      process: { residentBytes: this.pressure.residentBytes, limitBytes: this.pressure.limitBytes },
      ...(this.diskBuffer.queue && { diskBuffer: this.diskBuffer.describe() }),
      deadLetters: this.deadLetters.describe(),
      ...(this.threads.isOn && { ingestThreads: this.threads.describe() }),
      requestsInHand: this.requests.now.open.requests,
    });
  }

  /** Up if requests are admitted; otherwise down, with the reason. */
  accepting(): HealthIndicatorResult {
    const indicator = this.indicators.check('ingest');
    const refusal = this.threads.refusal() ?? this.ingest.refusal();
    return refusal === undefined ? indicator.up() : indicator.down({ reason: refusal.message });
  }
}
