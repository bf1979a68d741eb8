import { createClient, ClickHouseLogLevel, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';

/** The client all statements go through. Blocks are compressed already: it compresses nothing. */
export function createClickHouseClient(config: Config): ClickHouseClient {
  return createClient({
    url: config.CLICKHOUSE_URL,
    username: config.CLICKHOUSE_USERNAME,
    password: config.CLICKHOUSE_PASSWORD,
    application: 'hive-otel-collector',
    request_timeout: config.CLICKHOUSE_TIMEOUT_MS,
    // One for each insert worker, and one for the probe.
    max_open_connections: config.BATCH_WORKERS + 1,
    log: { level: ClickHouseLogLevel.OFF },
  });
}
