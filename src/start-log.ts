import { type INestApplicationContext, Logger } from '@nestjs/common';
import { collectorConfig } from './config/config.module.ts';
import { serverName } from './config/server-url.ts';
import { tracesEndpoint } from './config/traces-endpoint.ts';
import { unknownVariables } from './config/unknown-variables.ts';
import type { Config } from './config/variables.ts';
import { version } from './config/version.ts';
import { warningsOf } from './config/warnings.ts';
import { DeadLetters } from './dead-letters/dead-letters.service.ts';
import { DiskBuffer } from './disk-buffer/disk-buffer.service.ts';
import { fallbacksInUse } from './runtime/internals.ts';
import type { OpenPorts } from './server/ports.ts';

/**
 * Logs the start with the configuration in one line, without secrets; as a warning if a setting is dangerous. Optimizations that are not
 * in use are a line of their own.
 */
export function logStart(app: INestApplicationContext, ports: OpenPorts): void {
  const config = app.get<Config>(collectorConfig.KEY);
  const warnings = [...unknownVariables(process.env), ...warningsOf(config)];
  const summary = {
    version,
    node: process.version,
    host: config.HOST,
    ports,
    auth: config.HIVE_OTEL_AUTH_ENDPOINT === undefined || config.DISABLE_AUTH ? 'off' : withoutQuery(config.HIVE_OTEL_AUTH_ENDPOINT),
    acknowledges: config.ACK_MODE,
    dialect: config.ROW_DIALECT,
    clickhouse: { servers: config.CLICKHOUSE_URL.map(serverName), database: config.CLICKHOUSE_DATABASE, table: config.CLICKHOUSE_TABLE },
    diskBuffer: app.get(DiskBuffer).found ?? 'off',
    selfTracing: URL.parse(tracesEndpoint(config) ?? '')?.origin ?? 'off',
    deadLetters: app.get(DeadLetters).count,
    limits: {
      memoryMb: config.MEM_BUFFER_SIZE_MB,
      requestMb: config.MAX_REQUEST_MB,
      connections: config.MAX_CONNECTIONS,
      acknowledgeMs: config.ACK_TIMEOUT_MS,
      batchSpans: config.BATCH_MAX_SPANS,
      batchMs: config.BATCH_TIMEOUT_MS,
    },
    ...(warnings.length > 0 && { warnings }),
    msg: 'The collector has started',
  };
  const logger = new Logger('Start');
  const fallbacks = fallbacksInUse();
  if (fallbacks.length > 0) logger.warn({ fallbacks, msg: 'Optimizations are not used; the collector needs more CPU or memory' });
  if (warnings.length > 0) logger.warn(summary);
  else logger.log(summary);
}

function withoutQuery(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}
