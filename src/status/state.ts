import { Inject, Injectable } from '@nestjs/common';
import { AuthService } from '../auth/auth.service.ts';
import { InsertWorkers } from '../batch/insert-workers.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { version } from '../config/version.ts';
import { DeadLetters } from '../dead-letters/dead-letters.service.ts';
import { DiskBuffer } from '../disk-buffer/disk-buffer.service.ts';
import { IngestService } from '../ingest/ingest.service.ts';
import { RefusalLog } from '../ingest/refusal-log.ts';
import { DroppedSpans } from '../metrics/dropped-spans.ts';
import { BlockQueue } from '../queue/block-queue.ts';
import { StorageService } from '../storage/storage.service.ts';
import { RequestTotals } from '../telemetry/request-counts.ts';
import { IngestThreads } from '../threads/ingest-threads.ts';
import { sumsOf } from './sampler.ts';

/** The state of the collector's parts that the status page shows next to its charts. */
@Injectable()
export class CollectorState {
  constructor(
    @Inject(collectorConfig.KEY) private readonly config: Config,
    private readonly ingest: IngestService,
    private readonly requests: RequestTotals,
    private readonly storage: StorageService,
    private readonly queue: BlockQueue,
    private readonly workers: InsertWorkers,
    private readonly diskBuffer: DiskBuffer,
    private readonly deadLetters: DeadLetters,
    private readonly dropped: DroppedSpans,
    private readonly auth: AuthService,
    private readonly refusals: RefusalLog,
    private readonly threads: IngestThreads,
  ) {}

  /** Reads the state from memory: no request is sent to ClickHouse or the auth endpoint. */
  describe(): object {
    const { ingest, auth, queue } = this;
    return {
      version,
      uptimeSeconds: Math.round(process.uptime()),
      refusing: (this.threads.refusal() ?? ingest.refusal())?.message,
      requestsInHand: this.requests.now.open.requests,
      sendTo: { http: this.config.PORT, grpc: this.config.GRPC_PORT },
      totals: this.totals(),
      ackMode: this.config.ACK_MODE,
      clickhouse: this.storage.availability.all.map(({ name, availability }) => ({ name, ...availability.status })),
      insertsUnderWay: this.workers.busy,
      ...this.storage.insertRate.lastMinute(),
      failedInserts: this.storage.stats.failedInserts,
      lastInsertError: this.storage.lastError,
      auth: this.config.DISABLE_AUTH ? undefined : { ...this.requests.now.auth, isAnswering: auth.isAnswering },
      buffered: queue.accounts.buffered,
      overdue: this.threads.overdueSpans,
      dropped: Object.fromEntries(this.dropped.byReason()),
      diskBuffer: this.diskBuffer.queue && this.diskBuffer.describe(),
      deadLetters: this.deadLetters.describe(),
      ingestThreads: this.threads.isOn ? this.threads.describe() : undefined,
      refusals: this.refusals.recent,
    };
  }

  /** Totals since the start, the same as in /metrics: of spans, except `refusedRequests` and `inserts`. */
  private totals(): Readonly<Record<string, number>> {
    const { insertedRows, inserts } = this.storage.stats;
    return { ...sumsOf(this.requests.now), stored: insertedRows, inserts };
  }
}
