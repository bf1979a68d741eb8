import { Module } from '@nestjs/common';
import { PrometheusModule } from '@willsoto/nestjs-prometheus';
import { AuthModule } from '../auth/auth.module.ts';
import { AuthService } from '../auth/auth.service.ts';
import { BatchModule } from '../batch/batch.module.ts';
import { InsertWorkers } from '../batch/insert-workers.ts';
import { TranscoderPool } from '../blocks/transcoder-pool.ts';
import { TargetLimits } from '../bodies/target-limits.ts';
import { version } from '../config/version.ts';
import { DeadLetters } from '../dead-letters/dead-letters.service.ts';
import { DiskBuffer } from '../disk-buffer/disk-buffer.service.ts';
import { IngestModule } from '../ingest/ingest.module.ts';
import { IngestService } from '../ingest/ingest.service.ts';
import { RefusalLog } from '../ingest/refusal-log.ts';
import { UnstoredRequests } from '../ingest/unstored-requests.ts';
import { BlockQueue } from '../queue/block-queue.ts';
import { MemoryBudget } from '../queue/memory-budget.ts';
import { MemoryPressure } from '../queue/memory-pressure.ts';
import { Ports } from '../server/ports.ts';
import { ServerModule } from '../server/server.module.ts';
import { StorageService } from '../storage/storage.service.ts';
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
    ServerModule,
  ],
  providers: [
    DroppedSpans,
    counters(
      'otelcol_receiver_accepted_spans_total',
      'Spans acknowledged to their senders.',
      'transport',
      IngestService,
      ({ spans: { http, grpc } }) => [
        ['http', http.accepted],
        ['grpc', grpc.accepted],
      ],
      RECEIVER,
    ),
    counters(
      'otelcol_receiver_refused_spans_total',
      'Spans parsed and then refused, because they could not be stored in time. Senders repeat them; growth means ClickHouse does not ' +
        'keep up.',
      'transport',
      IngestService,
      ({ spans: { http, grpc } }) => [
        ['http', http.refused],
        ['grpc', grpc.refused],
      ],
      RECEIVER,
    ),
    counter(
      'otelcol_exporter_sent_spans_total',
      'Spans that ClickHouse has confirmed.',
      StorageService,
      ({ stats }) => stats.insertedRows,
      EXPORTER,
    ),
    counter(
      'otelcol_exporter_send_failed_spans_total',
      'Spans that ClickHouse refuses for good. Any growth deserves a look at the log.',
      InsertWorkers,
      ({ stats }) => stats.refusedRows,
      EXPORTER,
    ),
    gauge(
      'otelcol_exporter_queue_size',
      'Bytes that wait for an insert, compressed. Sustained growth means ClickHouse does not keep up.',
      BlockQueue,
      ({ waiting }) => waiting.bytes,
      EXPORTER,
    ),
    gauge(
      'otelcol_exporter_queue_capacity',
      'Bytes that may wait: the size of the disk buffer, or without one of the memory (MEM_BUFFER_SIZE_MB).',
      BlockQueue,
      ({ capacityBytes }) => capacityBytes,
      EXPORTER,
    ),
    counter('otelcol_process_uptime_seconds_total', 'Seconds since the collector started.', IngestService, () => process.uptime()),
    counter('otelcol_process_cpu_seconds_total', 'CPU time used, user and system, in seconds.', IngestService, () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    }),
    gauge('otelcol_process_memory_rss_bytes', 'Resident memory of the collector, in bytes.', IngestService, () =>
      process.memoryUsage.rss(),
    ),
    gauge(
      'otelcol_process_runtime_heap_alloc_bytes',
      "Bytes in use on V8's heap. Bodies, blocks and columns are outside of it.",
      IngestService,
      () => process.memoryUsage().heapUsed,
    ),
    gauge('hive_collector_build_info', '1; the labels say which collector this is.', IngestService, () => 1, {
      version,
      node: process.version,
    }),

    gauge(
      'hive_collector_buffered_spans',
      'Spans acknowledged and not in ClickHouse yet: in the disk buffer or, with ACK_MODE=received, in memory.',
      BlockQueue,
      ({ accounts }) => accounts.buffered,
    ),
    counter(
      'hive_collector_disk_buffer_found_spans_total',
      'Spans that were in the disk buffer at the start.',
      BlockQueue,
      ({ accounts }) => accounts.recovered,
    ),
    counter(
      'hive_collector_overdue_spans_total',
      'Spans stored although their senders were told to send them again, as they were late: twice in ClickHouse if they were, save for ' +
        'hive_collector_joined_spans_total. Growth: raise ACK_TIMEOUT_MS, or turn the disk buffer on.',
      BlockQueue,
      ({ accounts }) => accounts.storedAfterRefusal,
    ),
    counter(
      'hive_collector_joined_spans_total',
      'Spans acknowledged when their request was repeated while its first insert was under way: stored once, counted twice among the ' +
        'accepted, or among the accepted and the overdue.',
      UnstoredRequests,
      ({ joinedSpans }) => joinedSpans,
    ),
    counters(
      'hive_collector_dropped_spans_total',
      'Acknowledged spans that are not in ClickHouse and will not get there by themselves, by reason. dead_letter: ClickHouse refuses ' +
        'them, npm run dead-letters replays them; no_room, too_large, shutdown: lost, which only ACK_MODE=received allows.',
      'reason',
      DroppedSpans,
      (dropped) => dropped.byReason(),
    ),

    counters(
      'hive_collector_refused_requests_total',
      'Requests answered with an error, by HTTP status, or the one it would have been for gRPC. 4xx: the sender is wrong; 503: the ' +
        'collector or ClickHouse is out of room or down.',
      'status',
      RefusalLog,
      ({ byStatus }) => Array.from(byStatus, ([status, requests]) => [String(status), requests] as const),
    ),
    counters(
      'hive_collector_rejected_spans_total',
      'Spans left out of requests otherwise taken, by reason. bad_id: an id of a wrong length; bad_time: started longer ago than ' +
        "SPAN_MAX_AGE_DAYS or the table's TTL, in the future, or without a time; too_large: larger than SPAN_MAX_SIZE_KB; refused: " +
        'ClickHouse does not take what they hold. Their sender was told.',
      'reason',
      IngestService,
      ({ rejectedSpans }) => Object.entries(rejectedSpans),
    ),
    counters(
      'hive_collector_adjusted_spans_total',
      'Spans stored with another value than they came with, by reason. no_start: the end taken for a missing start; late_time: a time ' +
        'after 2262-04-11, which is the last that can be stored; unknown_enum: a kind or status code of an unknown name, stored as ' +
        'unspecified. Their sender was told.',
      'reason',
      IngestService,
      ({ adjustedSpans }) => Object.entries(adjustedSpans),
    ),
    counters(
      'hive_collector_backpressure_requests_total',
      'Requests refused for want of room, by reason: MEM_BUFFER_SIZE_MB (memory), the limit of the process (process_memory), a target ' +
        'over its share of it or over its rate, ClickHouse or the disk buffer, a shutdown. Their senders come back.',
      'reason',
      IngestService,
      ({ refused }) => Object.entries(refused),
    ),
    counters(
      'hive_collector_target_spans_total',
      'Spans acknowledged, of the METRICS_TOP_TARGETS targets that have sent the most.',
      'target',
      IngestService,
      ({ topTargets }) => topTargets.list(),
    ),
    histogram(
      'hive_collector_acknowledge_seconds',
      'Seconds from when a request is let in until its spans are acknowledged: body, parsing and, without the disk buffer, the insert.',
      IngestService,
      ({ acknowledgeSeconds }) => acknowledgeSeconds,
    ),
    histogram(
      'hive_collector_block_bytes',
      'Compressed size of the blocks that requests are gathered in, in bytes.',
      TranscoderPool,
      ({ blockBytes }) => blockBytes,
    ),
    counter('hive_collector_body_bytes_total', 'Bytes of request bodies, inflated.', TranscoderPool, ({ bodyBytes }) => bodyBytes),
    gauge('hive_collector_requests_in_hand', 'Requests let in and not answered yet.', IngestService, ({ inFlight }) => inFlight),
    gauge('hive_collector_connections', 'Connections of senders that are open.', Ports, ({ connections }) => connections),
    counter(
      'hive_collector_dropped_connections_total',
      'Connections closed as they came, because there were MAX_CONNECTIONS already.',
      Ports,
      ({ droppedConnections }) => droppedConnections,
    ),
    gauge('hive_collector_queue_spans', 'Spans that wait for an insert.', BlockQueue, ({ waiting }) => waiting.rows),
    gauge('hive_collector_queue_oldest_seconds', 'How long the oldest of them has waited, in seconds.', BlockQueue, ({ waiting }) =>
      secondsSince(waiting.oldestAtMs),
    ),
    gauge('hive_collector_memory_used_bytes', 'Bytes of bodies and blocks in memory.', MemoryBudget, ({ usedBytes }) => usedBytes),
    gauge(
      'hive_collector_memory_limit_bytes',
      'Bytes of bodies and blocks that may be in memory (MEM_BUFFER_SIZE_MB).',
      MemoryBudget,
      ({ limitBytes }) => limitBytes,
    ),
    gauge(
      'hive_collector_resident_bytes',
      'Memory of the process without pages of files, in bytes. Above 60 % of the limit, only few and small requests are let in.',
      MemoryPressure,
      ({ residentBytes }) => residentBytes,
    ),
    gauge(
      'hive_collector_resident_limit_bytes',
      "Memory that the process may have, in bytes: the container's limit, or all of the machine.",
      MemoryPressure,
      ({ limitBytes }) => limitBytes,
    ),
    gauge('hive_collector_targets', 'Targets that have sent something within the last seconds.', TargetLimits, ({ targets }) => targets),
    gauge('hive_collector_inserts_under_way', 'Inserts being sent to ClickHouse.', InsertWorkers, ({ busy }) => busy),
    gauge(
      'hive_collector_pinned_spans',
      'Spans that wait for the one server of CLICKHOUSE_URL that may have them already. While there are any, the disk buffer does not ' +
        'go round.',
      InsertWorkers,
      ({ pinnedSpans }) => Object.values(pinnedSpans).reduce((sum, spans) => sum + spans, 0),
    ),
    counter('hive_collector_inserts_total', 'Inserts that ClickHouse has confirmed.', StorageService, ({ stats }) => stats.inserts),
    counter(
      'hive_collector_insert_failures_total',
      'Inserts that failed, and were sent again unless refused for good.',
      StorageService,
      ({ stats }) => stats.failedInserts,
    ),
    counter(
      'hive_collector_restored_spans_total',
      'Spans inserted again, as a ClickHouse that was killed had lost them and took them for stored.',
      StorageService,
      ({ stats }) => stats.restoredRows,
    ),
    histogram(
      'hive_collector_insert_seconds',
      'Seconds an insert takes, from sending it to the answer, failed ones too.',
      StorageService,
      ({ insertSeconds }) => insertSeconds,
    ),
    histogram(
      'hive_collector_insert_spans',
      'Spans in an insert that ClickHouse has confirmed. Few spans in many inserts cost ClickHouse merges.',
      StorageService,
      ({ insertRows }) => insertRows,
    ),
    gauge(
      'hive_collector_inserts_per_second',
      'Inserts a second that ClickHouse has confirmed, over the last minute. Each makes a part or more: over all collectors, more than ' +
        '10 a second to one server is much.',
      StorageService,
      ({ insertRate }) => insertRate.lastMinute().insertsPerSecond,
    ),
    gauge(
      'hive_collector_spans_per_insert',
      'Spans in an insert, on average over the last minute; 0 without one. Under 1,000 with many inserts a second, ClickHouse pays for ' +
        'parts more than for spans.',
      StorageService,
      ({ insertRate }) => insertRate.lastMinute().spansPerInsert,
    ),
    counter(
      'hive_collector_insert_bytes_total',
      'Compressed bytes in inserts that ClickHouse has confirmed.',
      StorageService,
      ({ stats }) => stats.insertedBytes,
    ),
    gauge('hive_collector_clickhouse_up', '1 while ClickHouse takes inserts, 0 while it does not.', StorageService, ({ availability }) =>
      Number(availability.isUp),
    ),
    gauge(
      'hive_collector_clickhouse_servers_up',
      'Servers of CLICKHOUSE_URL that take inserts.',
      StorageService,
      ({ availability }) => availability.all.filter((server) => server.availability.isUp).length,
    ),
    gauge(
      'hive_collector_disk_buffer_used_bytes',
      'Bytes in the disk buffer. Sustained growth means ClickHouse is not keeping up.',
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
      'Blocks in the disk buffer that no insert has taken yet.',
      DiskBuffer,
      ({ queue }) => queue?.waiting.blocks ?? 0,
    ),
    gauge(
      'hive_collector_disk_buffer_oldest_seconds',
      'Age of the oldest block that waits in the disk buffer, in seconds.',
      DiskBuffer,
      ({ queue }) => secondsSince(queue?.waiting.oldestAtMs ?? Infinity),
    ),
    gauge(
      'hive_collector_disk_buffer_drain_spans_per_second',
      'Spans a second that go from the disk buffer to ClickHouse, over the last 5 s.',
      DiskBuffer,
      ({ drainRate }) => drainRate?.spansPerSecond ?? 0,
    ),
    gauge(
      'hive_collector_disk_buffer_empty_in_seconds',
      'Seconds until the disk buffer is empty at that rate; +Inf while nothing leaves it.',
      DiskBuffer,
      ({ drainRate, queue }) => drainRate?.secondsFor(queue?.waiting.rows ?? 0) ?? 0,
    ),
    counter(
      'hive_collector_disk_buffer_replayed_spans_total',
      'Spans of inserts that were on their way when the collector ended before, sent again.',
      DiskBuffer,
      ({ queue }) => queue?.stats.replayedRows ?? 0,
    ),
    counter(
      'hive_collector_disk_buffer_damaged_records_total',
      'Records found damaged at the start, and lost. Any is a reason to look at the disk.',
      DiskBuffer,
      ({ damagedRecords }) => damagedRecords,
    ),
    counter(
      'hive_collector_disk_buffer_sync_failures_total',
      'Times the disk refused to write the disk buffer.',
      DiskBuffer,
      ({ queue }) => queue?.stats.syncFailures ?? 0,
    ),

    gauge(
      'hive_collector_dead_letters',
      'Blocks that ClickHouse refuses for good, kept in the dead-letter folder. Any deserves a look: npm run dead-letters -- list.',
      DeadLetters,
      ({ letters }) => letters,
    ),
    gauge(
      'hive_collector_dead_letters_bytes',
      'Size of the dead-letter folder, in bytes. At DEAD_LETTERS_MAX_MB, refused blocks stay in the queue.',
      DeadLetters,
      ({ bytes }) => bytes,
    ),

    counter('hive_collector_auth_lookups_total', "Questions to Hive's auth endpoint.", AuthService, ({ stats }) => stats.lookups),
    histogram(
      'hive_collector_auth_lookup_seconds',
      "Seconds a question to Hive's auth endpoint takes, its repetitions included. Only senders of unknown tokens wait for it.",
      AuthService,
      ({ lookupSeconds }) => lookupSeconds,
    ),
    counter(
      'hive_collector_auth_lookup_failures_total',
      "Questions to Hive's auth endpoint without a verdict: no answer, or one about the endpoint, not the token.",
      AuthService,
      ({ stats }) => stats.lookupFailures,
    ),
    counter(
      'hive_collector_auth_cache_hits_total',
      'Requests whose credentials were known already.',
      AuthService,
      ({ stats }) => stats.cacheHits,
    ),
    counter('hive_collector_auth_refused_total', 'Requests whose credentials Hive refuses.', AuthService, ({ stats }) => stats.refused),
    counter(
      'hive_collector_auth_stale_total',
      'Requests let in on an earlier answer, while the auth endpoint is down.',
      AuthService,
      ({ stats }) => stats.staleServed,
    ),
  ],
  exports: [DroppedSpans],
})
export class MetricsModule {}

/** Seconds since `atMs`, a value of `performance.now()`; 0 if it is Infinity. */
function secondsSince(atMs: number): number {
  return atMs === Infinity ? 0 : (performance.now() - atMs) / 1000;
}
