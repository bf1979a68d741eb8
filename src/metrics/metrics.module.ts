import { Module } from '@nestjs/common';
import { PrometheusModule } from '@willsoto/nestjs-prometheus';
import { AuthModule } from '../auth/auth.module.ts';
import { AuthService } from '../auth/auth.service.ts';
import { BatchModule } from '../batch/batch.module.ts';
import { InsertWorkers } from '../batch/insert-workers.ts';
import { version } from '../config/version.ts';
import { DeadLetters } from '../dead-letters/dead-letters.service.ts';
import { DiskBuffer } from '../disk-buffer/disk-buffer.service.ts';
import { IngestModule } from '../ingest/ingest.module.ts';
import { IngestService } from '../ingest/ingest.service.ts';
import { UnstoredRequests } from '../ingest/unstored-requests.ts';
import { BlockQueue } from '../queue/block-queue.ts';
import { MemoryBudget } from '../queue/memory-budget.ts';
import { MemoryPressure } from '../queue/memory-pressure.ts';
import { StorageService } from '../storage/storage.service.ts';
import { RequestTotals } from '../telemetry/request-counts.ts';
import { IngestThreads } from '../threads/ingest-threads.ts';
import { DroppedSpans } from './dropped-spans.ts';
import { MetricsController } from './metrics.controller.ts';
import { counter, counters, gauge, histogram } from './read-metrics.ts';

/*
 * Names and labels are the OpenTelemetry Collector's where it has them, so that its dashboards work; all others begin with
 * hive_collector_. docs/operations.md tells what an operator does with them.
 */

const RECEIVER = { receiver: 'otlp' };
const EXPORTER = { exporter: 'clickhouse' };

/** How often Node wakes up to measure the delay of its event loop. The default, 10 ms, would be most of an idle collector's CPU time. */
const LAG_PRECISION_MS = 50;

@Module({
  imports: [
    PrometheusModule.register({
      controller: MetricsController,
      defaultMetrics: { enabled: true, config: { eventLoopMonitoringPrecision: LAG_PRECISION_MS } },
    }),
    AuthModule,
    BatchModule,
    IngestModule,
  ],
  providers: [
    DroppedSpans,
    counters(
      'otelcol_receiver_accepted_spans_total',
      'Spans acknowledged to their senders.',
      'transport',
      RequestTotals,
      spansByTransport('accepted'),
      RECEIVER,
    ),
    counters(
      'otelcol_receiver_refused_spans_total',
      'Spans that were parsed and then refused because they could not be stored in time. Senders retry; growth means that ClickHouse ' +
        'does not keep up.',
      'transport',
      RequestTotals,
      spansByTransport('refused'),
      RECEIVER,
    ),
    counter(
      'otelcol_exporter_sent_spans_total',
      'Spans in inserts that ClickHouse has confirmed.',
      StorageService,
      ({ stats }) => stats.insertedRows,
      EXPORTER,
    ),
    counter(
      'otelcol_exporter_send_failed_spans_total',
      'Spans that ClickHouse permanently rejects. If it grows, check the log.',
      InsertWorkers,
      ({ stats }) => stats.refusedRows,
      EXPORTER,
    ),
    gauge(
      'otelcol_exporter_queue_size',
      'Compressed bytes that wait for an insert. Sustained growth means that ClickHouse does not keep up.',
      BlockQueue,
      ({ waiting }) => waiting.bytes,
      EXPORTER,
    ),
    gauge(
      'otelcol_exporter_queue_capacity',
      'Maximum number of bytes that can wait: the size of the disk buffer, or MEM_BUFFER_SIZE_MB without one.',
      BlockQueue,
      ({ capacityBytes }) => capacityBytes,
      EXPORTER,
    ),
    counter('otelcol_process_uptime_seconds_total', 'Seconds since the collector started.', IngestService, () => process.uptime()),
    counter('otelcol_process_cpu_seconds_total', 'CPU time of the process (user and system), in seconds.', IngestService, () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    }),
    gauge('otelcol_process_memory_rss_bytes', 'Resident memory of the collector, in bytes.', IngestService, () =>
      process.memoryUsage.rss(),
    ),
    gauge(
      'otelcol_process_runtime_heap_alloc_bytes',
      "Bytes in use on V8's heap. It does not contain bodies, blocks or columns.",
      IngestService,
      () => process.memoryUsage().heapUsed,
    ),
    gauge('hive_collector_build_info', 'Always 1. The labels are the versions of the collector and of Node.', IngestService, () => 1, {
      version,
      node: process.version,
    }),

    gauge(
      'hive_collector_buffered_spans',
      'Acknowledged spans that are not in ClickHouse yet: in the disk buffer or, with ACK_MODE=received, in memory.',
      BlockQueue,
      ({ accounts }) => accounts.buffered,
    ),
    counter(
      'hive_collector_disk_buffer_found_spans_total',
      'Acknowledged spans that were in the disk buffer at the start, and not known to be in ClickHouse.',
      BlockQueue,
      ({ accounts }) => accounts.recovered,
    ),
    counter(
      'hive_collector_overdue_spans_total',
      'Spans stored after their senders got 503 because of a timeout, or no answer because their ingest thread ended. They ' +
        'are duplicates in ClickHouse if the senders retried, except those in hive_collector_joined_spans_total. If it grows, raise ' +
        'ACK_TIMEOUT_MS or turn on the disk buffer.',
      IngestThreads,
      ({ overdueSpans }) => overdueSpans,
    ),
    counter(
      'hive_collector_joined_spans_total',
      'Spans of requests that were repeated while their first insert was in flight. They are stored once, but counted twice: both ' +
        'times as accepted, or as accepted and overdue.',
      UnstoredRequests,
      ({ joinedSpans }) => joinedSpans,
    ),
    counters(
      'hive_collector_dropped_spans_total',
      'Acknowledged spans that are not in ClickHouse and will not be inserted automatically, by reason. dead_letter: ClickHouse ' +
        'rejects them, npm run dead-letters replays them; no_room, too_large, shutdown, thread_ended: lost, only possible with ' +
        'ACK_MODE=received.',
      'reason',
      DroppedSpans,
      (dropped) => dropped.byReason(),
    ),

    counters(
      'hive_collector_refused_requests_total',
      'Requests answered with an error, by HTTP status (for gRPC the corresponding one). 4xx: an error of the sender, or a target over ' +
        'its limits (429); 503: the collector or ClickHouse is full or down.',
      'status',
      RequestTotals,
      ({ now }) => Object.entries(now.refusedByStatus).filter(([, requests]) => requests > 0),
    ),
    counters(
      'hive_collector_rejected_spans_total',
      'Spans rejected from requests that were otherwise accepted, by reason. bad_id: an id of a wrong length; bad_time: older than ' +
        "SPAN_MAX_AGE_DAYS or the table's TTL, in the future, or without a time; too_large: larger than SPAN_MAX_SIZE_KB; refused: " +
        'ClickHouse rejects their content. The sender was told.',
      'reason',
      RequestTotals,
      ({ now }) => Object.entries(now.rejectedSpans),
    ),
    counters(
      'hive_collector_adjusted_spans_total',
      'Spans stored with a changed value, by reason. no_start: the end time is stored for a missing start time; late_time: a time ' +
        'after 2262-04-11, stored as the last possible one; unknown_enum: an unknown name of a kind or status code, stored as ' +
        'unspecified. The sender was told.',
      'reason',
      RequestTotals,
      ({ now }) => Object.entries(now.adjustedSpans),
    ),
    counters(
      'hive_collector_backpressure_requests_total',
      'Requests refused because of backpressure, by reason. memory: MEM_BUFFER_SIZE_MB; process_memory: memory limit of the process; ' +
        'target_memory, target_rate: limits of one target; storage: ClickHouse is down, or the disk buffer is full or failing; shutdown. ' +
        'Senders retry.',
      'reason',
      RequestTotals,
      ({ now }) => Object.entries(now.backpressure),
    ),
    counters(
      'hive_collector_target_spans_total',
      'Acknowledged spans by target, for the METRICS_TOP_TARGETS targets that have sent the most.',
      'target',
      IngestService,
      ({ topTargets }) => topTargets.list(),
    ),
    histogram(
      'hive_collector_acknowledge_seconds',
      'Seconds from the admission of a request to its acknowledgement: reading the body, parsing and, without the disk buffer, the insert.',
      RequestTotals,
      ({ now }) => now.acknowledgeSeconds,
    ),
    histogram(
      'hive_collector_block_bytes',
      'Compressed size of blocks, in bytes. A block holds the spans of one or more requests.',
      RequestTotals,
      ({ now }) => now.blockBytes,
    ),
    counter(
      'hive_collector_body_bytes_total',
      'Bytes of request bodies after decompression.',
      RequestTotals,
      ({ now }) => now.totals.bodyBytes,
    ),
    gauge(
      'hive_collector_requests_in_hand',
      'Requests that were admitted and not answered yet.',
      RequestTotals,
      ({ now }) => now.open.requests,
    ),
    gauge(
      'hive_collector_connections',
      'Open connections of senders.',
      RequestTotals,
      ({ now: { open } }) => open.httpConnections + open.grpcConnections,
    ),
    counter(
      'hive_collector_dropped_connections_total',
      'Connections closed at once because MAX_CONNECTIONS were open.',
      RequestTotals,
      ({ now }) => now.totals.droppedConnections,
    ),
    counters(
      'hive_collector_thread_cpu_seconds_total',
      'CPU time of the main thread and of each ingest thread, in seconds. A thread at 1 per second is always busy (docs/scaling.md).',
      'thread',
      IngestThreads,
      (threads) => threads.cpuSeconds(),
    ),
    gauge(
      'hive_collector_ingest_threads',
      'Threads that serve requests. 1: the main thread does it.',
      IngestThreads,
      ({ serving }) => serving,
    ),
    counter(
      'hive_collector_ingest_thread_deaths_total',
      'Ingest threads that have ended because of an error, and were started again. Their open requests were lost: senders retry.',
      IngestThreads,
      ({ deaths }) => deaths,
    ),
    gauge('hive_collector_queue_spans', 'Spans that wait for an insert.', BlockQueue, ({ waiting }) => waiting.rows),
    gauge(
      'hive_collector_queue_oldest_seconds',
      'Age of the oldest span that waits for an insert, in seconds.',
      BlockQueue,
      ({ waiting }) => secondsSince(waiting.oldestAtMs),
    ),
    gauge('hive_collector_memory_used_bytes', 'Bytes of request bodies and blocks in memory.', MemoryBudget, ({ usedBytes }) => usedBytes),
    gauge(
      'hive_collector_memory_limit_bytes',
      'Maximum bytes of request bodies and blocks in memory (MEM_BUFFER_SIZE_MB).',
      MemoryBudget,
      ({ limitBytes }) => limitBytes,
    ),
    gauge(
      'hive_collector_resident_bytes',
      'Resident memory of the process without file pages, in bytes. Above 60 % of the limit, only few and small requests are admitted.',
      MemoryPressure,
      ({ residentBytes }) => residentBytes,
    ),
    gauge(
      'hive_collector_resident_limit_bytes',
      "Memory limit of the process, in bytes: that of the container, or the machine's memory.",
      MemoryPressure,
      ({ limitBytes }) => limitBytes,
    ),
    gauge(
      'hive_collector_targets',
      'Targets that have sent requests in the last few seconds.',
      IngestThreads,
      ({ targetCount }) => targetCount,
    ),
    gauge('hive_collector_inserts_under_way', 'Inserts in flight to ClickHouse.', InsertWorkers, ({ busy }) => busy),
    gauge(
      'hive_collector_pinned_spans',
      'Spans that wait for the one server of CLICKHOUSE_URL that may have stored them already. While there are any, the disk buffer ' +
        "can't free the space behind them.",
      InsertWorkers,
      ({ pinnedSpans }) => Object.values(pinnedSpans).reduce((sum, spans) => sum + spans, 0),
    ),
    counter('hive_collector_inserts_total', 'Inserts that ClickHouse has confirmed.', StorageService, ({ stats }) => stats.inserts),
    counter(
      'hive_collector_insert_failures_total',
      'Failed attempts to insert. They are retried unless ClickHouse permanently rejects the rows.',
      StorageService,
      ({ stats }) => stats.failedInserts,
    ),
    counter(
      'hive_collector_restored_spans_total',
      'Spans inserted again because a killed ClickHouse had lost them but reported them as stored.',
      StorageService,
      ({ stats }) => stats.restoredRows,
    ),
    histogram(
      'hive_collector_insert_seconds',
      'Seconds from sending an insert to its answer, failed inserts included.',
      StorageService,
      ({ insertSeconds }) => insertSeconds,
    ),
    histogram(
      'hive_collector_insert_spans',
      'Spans per confirmed insert. Many small inserts cost ClickHouse merges.',
      StorageService,
      ({ insertRows }) => insertRows,
    ),
    gauge(
      'hive_collector_inserts_per_second',
      'Confirmed inserts per second, over the last minute. Each creates at least one part: more than 10 per second to one server, over ' +
        'all collectors, is a lot.',
      StorageService,
      ({ insertRate }) => insertRate.lastMinute().insertsPerSecond,
    ),
    gauge(
      'hive_collector_spans_per_insert',
      'Average number of spans per insert, over the last minute; 0 without inserts. Below 1,000 with many inserts per second, ' +
        'ClickHouse spends more on parts than on spans.',
      StorageService,
      ({ insertRate }) => insertRate.lastMinute().spansPerInsert,
    ),
    counter(
      'hive_collector_insert_bytes_total',
      'Compressed bytes in confirmed inserts.',
      StorageService,
      ({ stats }) => stats.insertedBytes,
    ),
    gauge('hive_collector_clickhouse_up', '1 if ClickHouse accepts inserts, otherwise 0.', StorageService, ({ availability }) =>
      Number(availability.isUp),
    ),
    gauge(
      'hive_collector_clickhouse_servers_up',
      'Number of servers in CLICKHOUSE_URL that accept inserts.',
      StorageService,
      ({ availability }) => availability.all.filter((server) => server.availability.isUp).length,
    ),
    gauge(
      'hive_collector_disk_buffer_used_bytes',
      'Bytes in the disk buffer. Sustained growth means that ClickHouse does not keep up.',
      DiskBuffer,
      ({ ring }) => ring?.usedBytes ?? 0,
    ),
    gauge(
      'hive_collector_disk_buffer_capacity_bytes',
      'Size of the disk buffer, in bytes; 0 without one.',
      DiskBuffer,
      ({ ring }) => ring?.capacityBytes ?? 0,
    ),
    gauge(
      'hive_collector_disk_buffer_records',
      'Blocks in the disk buffer that wait for an insert.',
      DiskBuffer,
      ({ queue }) => queue?.waiting.blocks ?? 0,
    ),
    gauge(
      'hive_collector_disk_buffer_oldest_seconds',
      'Age of the oldest block in the disk buffer that waits for an insert, in seconds.',
      DiskBuffer,
      ({ queue }) => secondsSince(queue?.waiting.oldestAtMs ?? Infinity),
    ),
    gauge(
      'hive_collector_disk_buffer_drain_spans_per_second',
      'Spans per second inserted from the disk buffer, over the last 5 s.',
      DiskBuffer,
      ({ drainRate }) => drainRate?.spansPerSecond ?? 0,
    ),
    gauge(
      'hive_collector_disk_buffer_empty_in_seconds',
      'Estimated seconds until the disk buffer is empty, at hive_collector_disk_buffer_drain_spans_per_second; +Inf while nothing is ' +
        'inserted.',
      DiskBuffer,
      ({ drainRate, queue }) => drainRate?.secondsFor(queue?.waiting.rows ?? 0) ?? 0,
    ),
    counter(
      'hive_collector_disk_buffer_replayed_spans_total',
      'Spans sent again after a restart because their insert was in flight when the collector ended.',
      DiskBuffer,
      ({ queue }) => queue?.stats.replayedRows ?? 0,
    ),
    counter(
      'hive_collector_disk_buffer_damaged_records_total',
      'Damaged records found at the start. Their spans are lost: check the disk.',
      DiskBuffer,
      ({ damagedRecords }) => damagedRecords,
    ),
    counter(
      'hive_collector_disk_buffer_sync_failures_total',
      'Failed syncs of the disk buffer to the disk.',
      DiskBuffer,
      ({ queue }) => queue?.stats.syncFailures ?? 0,
    ),

    gauge(
      'hive_collector_dead_letters',
      'Dead letters in DEAD_LETTERS_DIR: rows that ClickHouse permanently rejects. List them with npm run dead-letters -- list.',
      DeadLetters,
      ({ count }) => count,
    ),
    gauge(
      'hive_collector_dead_letters_bytes',
      'Size of DEAD_LETTERS_DIR, in bytes. At DEAD_LETTERS_MAX_MB, rejected rows stay in the queue.',
      DeadLetters,
      ({ bytes }) => bytes,
    ),

    counter('hive_collector_auth_lookups_total', "Token checks at Hive's auth endpoint.", RequestTotals, ({ now }) => now.auth.lookups),
    histogram(
      'hive_collector_auth_lookup_seconds',
      "Seconds for a token check at Hive's auth endpoint, retries included. Requests with cached tokens do not wait for it.",
      AuthService,
      ({ lookupSeconds }) => lookupSeconds,
    ),
    counter(
      'hive_collector_auth_lookup_failures_total',
      "Failed token checks: Hive's auth endpoint gave no answer, or failed.",
      RequestTotals,
      ({ now }) => now.auth.lookupFailures,
    ),
    counter(
      'hive_collector_auth_cache_hits_total',
      'Requests whose token was in the cache.',
      RequestTotals,
      ({ now }) => now.auth.cacheHits,
    ),
    counter('hive_collector_auth_refused_total', 'Requests whose credentials Hive rejects.', RequestTotals, ({ now }) => now.auth.refused),
    counter(
      'hive_collector_auth_stale_total',
      'Requests accepted because of an earlier check while the auth endpoint is down.',
      RequestTotals,
      ({ now }) => now.auth.staleServed,
    ),
  ],
  exports: [DroppedSpans],
})
export class MetricsModule {}

function spansByTransport(outcome: 'accepted' | 'refused') {
  return ({ now: { spans } }: RequestTotals) => Object.entries(spans).map(([transport, counts]) => [transport, counts[outcome]] as const);
}

/** Seconds since `atMs`, a value of `performance.now()`; 0 if it is Infinity. */
function secondsSince(atMs: number): number {
  return atMs === Infinity ? 0 : (performance.now() - atMs) / 1000;
}
