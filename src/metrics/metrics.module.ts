import { Module } from '@nestjs/common';
import { makeCounterProvider, makeGaugeProvider, PrometheusModule } from '@willsoto/nestjs-prometheus';
import type { Counter, Gauge } from 'prom-client';
import { AuthModule } from '../auth/auth.module.ts';
import { AuthService } from '../auth/auth.service.ts';
import { BatchModule } from '../batch/batch.module.ts';
import { BlockQueue } from '../batch/block-queue.ts';
import { DeadLetters } from '../dead-letters/dead-letters.service.ts';
import { DiskBuffer } from '../disk-buffer/disk-buffer.service.ts';
import { InsertWorkers } from '../batch/insert-workers.ts';
import { MemoryBudget } from '../batch/memory-budget.ts';
import { IngestModule } from '../ingest/ingest.module.ts';
import { IngestService } from '../ingest/ingest.service.ts';
import { RefusalFilter } from '../ingest/refusal.filter.ts';
import { Ports } from '../server/ports.ts';
import { ServerModule } from '../server/server.module.ts';
import { TargetLimits } from '../ingest/target-limits.ts';
import { StorageService } from '../storage/storage.service.ts';
import { MetricsController } from './metrics.controller.ts';

/*
 * Names and labels are the OpenTelemetry Collector's where it has them, so that dashboards made for it work; the rest
 * begins with hive_collector_. The figures are plain numbers in the services, read when they are asked for: counting
 * costs a request nothing more.
 */

type Service = abstract new (...args: never[]) => unknown;
type InstanceOf<S> = S extends abstract new (...args: never[]) => infer Instance ? Instance : never;

/** A counter that shows a number one of the services keeps. */
function counter<S extends Service>(name: string, help: string, service: S, read: (service: InstanceOf<S>) => number, labels: Record<string, string> = {}) {
  return makeCounterProvider({
    name,
    help,
    labelNames: Object.keys(labels),
    inject: [service],
    collect(this: Counter, instance: InstanceOf<S>) {
      this.reset();
      this.inc(labels, read(instance));
    },
  });
}

/** The same for a number that can fall. */
function gauge<S extends Service>(name: string, help: string, service: S, read: (service: InstanceOf<S>) => number, labels: Record<string, string> = {}) {
  return makeGaugeProvider({
    name,
    help,
    labelNames: Object.keys(labels),
    inject: [service],
    collect(this: Gauge, instance: InstanceOf<S>) {
      this.set(labels, read(instance));
    },
  });
}

/** A counter of spans, by the transport they came over. */
function received(name: string, help: string, outcome: 'accepted' | 'refused') {
  return makeCounterProvider({
    name,
    help,
    labelNames: ['receiver', 'transport'],
    inject: [IngestService],
    collect(this: Counter, { spans }: IngestService) {
      this.reset();
      for (const [transport, counts] of Object.entries(spans)) this.inc({ receiver: 'otlp', transport }, counts[outcome]);
    },
  });
}

const EXPORTER = { exporter: 'clickhouse' };

@Module({
  imports: [PrometheusModule.register({ controller: MetricsController, defaultMetrics: { enabled: true } }), AuthModule, BatchModule, IngestModule, ServerModule],
  providers: [
    received('otelcol_receiver_accepted_spans_total', 'Spans acknowledged to their senders.', 'accepted'),
    received(
      'otelcol_receiver_refused_spans_total',
      'Spans parsed and then refused, because they could not be stored in time. Senders repeat them; growth means ClickHouse does not keep up.',
      'refused',
    ),
    counter('otelcol_exporter_sent_spans_total', 'Spans that ClickHouse has confirmed.', StorageService, ({ stats }) => stats.insertedRows, EXPORTER),
    counter(
      'otelcol_exporter_send_failed_spans_total',
      'Spans that ClickHouse refuses for good. Any growth deserves a look at the log.',
      InsertWorkers,
      ({ stats }) => stats.poisonedRows,
      EXPORTER,
    ),
    gauge('otelcol_exporter_queue_size', 'Spans sealed and waiting for an insert worker.', BlockQueue, ({ waiting }) => waiting.rows, EXPORTER),
    gauge('otelcol_process_uptime_seconds', 'Seconds since the collector started.', IngestService, () => process.uptime()),
    counter('otelcol_process_cpu_seconds_total', 'CPU time used, user and system, in seconds.', IngestService, () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    }),
    gauge('otelcol_process_memory_rss_bytes', 'Resident memory of the collector, in bytes.', IngestService, () => process.memoryUsage.rss()),

    makeCounterProvider({
      name: 'hive_collector_refused_requests_total',
      help: 'Requests answered with an error, by HTTP status, or the one it would have been for gRPC. 4xx: the sender is wrong; 503: the collector or ClickHouse is out of room or down.',
      labelNames: ['status'],
      inject: [RefusalFilter],
      collect(this: Counter, { refused }: RefusalFilter) {
        this.reset();
        for (const [status, requests] of refused) this.inc({ status: String(status) }, requests);
      },
    }),
    makeCounterProvider({
      name: 'hive_collector_rejected_spans_total',
      help: 'Spans left out of requests otherwise taken, by reason. bad_id: an id of a wrong length; bad_time: started longer ago than SPAN_MAX_AGE_DAYS, or in the future; too_large: larger than SPAN_MAX_SIZE_KB. Their sender was told.',
      labelNames: ['reason'],
      inject: [IngestService],
      collect(this: Counter, { rejectedSpans }: IngestService) {
        this.reset();
        for (const [reason, spans] of Object.entries(rejectedSpans)) this.inc({ reason }, spans);
      },
    }),
    makeCounterProvider({
      name: 'hive_collector_backpressure_requests_total',
      help: 'Requests refused for want of room, by reason: the memory, a target over its share of it or over its rate, ClickHouse or the disk buffer, a shutdown. Their senders come back.',
      labelNames: ['reason'],
      inject: [IngestService],
      collect(this: Counter, { refused }: IngestService) {
        this.reset();
        for (const [reason, requests] of Object.entries(refused)) this.inc({ reason }, requests);
      },
    }),
    counter('hive_collector_body_bytes_total', 'Bytes of request bodies, inflated.', IngestService, ({ stats }) => stats.bodyBytes),
    gauge('hive_collector_requests_in_hand', 'Requests let in and not answered yet.', IngestService, ({ inHand }) => inHand),
    gauge('hive_collector_connections', 'Connections of senders that are open.', Ports, ({ otlp }) => otlp?.connections ?? 0),
    counter('hive_collector_dropped_connections_total', 'Connections closed as they came, because there were MAX_CONNECTIONS already.', Ports, ({ otlp }) => otlp?.droppedConnections ?? 0),
    gauge('hive_collector_queue_bytes', 'Compressed bytes waiting for an insert worker. Sustained growth means ClickHouse is not keeping up.', BlockQueue, ({ waiting }) => waiting.bytes),
    gauge('hive_collector_memory_used_bytes', 'Bytes of bodies and blocks in memory.', MemoryBudget, ({ usedBytes }) => usedBytes),
    gauge('hive_collector_memory_limit_bytes', 'Bytes of bodies and blocks that may be in memory (MEM_BUFFER_SIZE_MB).', MemoryBudget, ({ limitBytes }) => limitBytes),
    gauge('hive_collector_targets', 'Targets that have sent something within the last seconds.', TargetLimits, ({ targets }) => targets),
    gauge('hive_collector_inserts_under_way', 'Inserts being sent to ClickHouse.', InsertWorkers, ({ busy }) => busy),
    counter('hive_collector_inserts_total', 'Inserts that ClickHouse has confirmed.', StorageService, ({ stats }) => stats.inserts),
    counter('hive_collector_insert_failures_total', 'Inserts that failed, and were sent again unless refused for good.', StorageService, ({ stats }) => stats.failedInserts),
    counter('hive_collector_insert_seconds_total', 'Time spent in inserts, in seconds; divided by their number, the mean.', StorageService, ({ stats }) => stats.insertSecondsTotal),
    counter('hive_collector_insert_bytes_total', 'Compressed bytes in inserts that ClickHouse has confirmed.', StorageService, ({ stats }) => stats.insertedBytes),
    gauge('hive_collector_clickhouse_up', '1 while ClickHouse takes inserts, 0 while it does not.', StorageService, ({ availability }) => Number(availability.isUp)),
    gauge('hive_collector_clickhouse_servers_up', 'Servers of CLICKHOUSE_URL that take inserts.', StorageService, ({ availability }) => availability.all.filter((server) => server.availability.isUp).length),
    gauge('hive_collector_disk_buffer_used_bytes', 'Bytes in the disk buffer. Sustained growth means ClickHouse is not keeping up.', DiskBuffer, ({ ring }) => ring?.usedBytes ?? 0),
    gauge('hive_collector_disk_buffer_capacity_bytes', 'Size of the disk buffer, in bytes; 0 without one.', DiskBuffer, ({ ring }) => ring?.capacityBytes ?? 0),
    gauge('hive_collector_disk_buffer_records', 'Blocks in the disk buffer that no insert has taken yet.', DiskBuffer, ({ queue }) => queue?.waiting.blocks ?? 0),
    gauge('hive_collector_disk_buffer_oldest_seconds', 'Age of the oldest block that waits in the disk buffer, in seconds.', DiskBuffer, ({ queue }) =>
      queue === undefined || queue.waiting.blocks === 0 ? 0 : (performance.now() - queue.waiting.oldestAtMs) / 1000,
    ),
    gauge('hive_collector_disk_buffer_drain_spans_per_second', 'Spans a second that go from the disk buffer to ClickHouse, over the last 5 s.', DiskBuffer, ({ drainRate }) => drainRate?.spansPerSecond ?? 0),
    gauge('hive_collector_disk_buffer_empty_in_seconds', 'Seconds until the disk buffer is empty at that rate; +Inf while nothing leaves it.', DiskBuffer, ({ drainRate, queue }) =>
      drainRate?.secondsFor(queue?.waiting.rows ?? 0) ?? 0,
    ),
    counter('hive_collector_disk_buffer_replayed_spans_total', 'Spans of inserts that were on their way when the collector ended before, sent again.', DiskBuffer, ({ queue }) => queue?.stats.replayedRows ?? 0),
    counter('hive_collector_disk_buffer_damaged_records_total', 'Records found damaged at the start, and lost. Any is a reason to look at the disk.', DiskBuffer, ({ damagedRecords }) => damagedRecords),
    counter('hive_collector_disk_buffer_sync_failures_total', 'Times the disk refused to write the disk buffer.', DiskBuffer, ({ queue }) => queue?.stats.syncFailures ?? 0),

    gauge('hive_collector_dead_letters', 'Blocks that ClickHouse refuses for good, kept in the dead-letter folder. Any deserves a look: npm run dead-letters -- list.', DeadLetters, ({ letters }) => letters),
    gauge('hive_collector_dead_letters_bytes', 'Size of the dead-letter folder, in bytes. At DEAD_LETTERS_MAX_MB, refused blocks stay in the queue.', DeadLetters, ({ bytes }) => bytes),

    counter('hive_collector_auth_lookups_total', "Questions to Hive's auth endpoint.", AuthService, ({ stats }) => stats.lookups),
    counter('hive_collector_auth_lookup_failures_total', "Questions to Hive's auth endpoint that stayed without an answer.", AuthService, ({ stats }) => stats.lookupFailures),
    counter('hive_collector_auth_cache_hits_total', 'Requests whose credentials were known already.', AuthService, ({ stats }) => stats.cacheHits),
    counter('hive_collector_auth_refused_total', 'Requests whose credentials Hive refuses.', AuthService, ({ stats }) => stats.refused),
    counter('hive_collector_auth_stale_total', 'Requests let in on an earlier answer, while the auth endpoint is down.', AuthService, ({ stats }) => stats.staleServed),
  ],
})
export class MetricsModule {}
