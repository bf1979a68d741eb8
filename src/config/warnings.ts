import { memoryDefaults, memoryLimitBytes, mostMemoryMb } from '../runtime/memory-limit.ts';
import { tracesIntoItself } from './traces-endpoint.ts';
import type { Config } from './variables.ts';

/**
 * Warnings about settings that are allowed but dangerous, as sentences for the log.
 * @param limitBytes the memory limit of the process, in bytes
 */
export function warningsOf(config: Config, limitBytes = memoryLimitBytes()): string[] {
  const warnings: string[] = [];
  if (config.DISABLE_AUTH)
    warnings.push('DISABLE_AUTH=true: EVERYONE who reaches this collector can write traces to ANY target. Never use this in production.');
  if (config.ACK_MODE === 'received')
    warnings.push('ACK_MODE=received: 200 no longer means stored. What is in memory is lost when the collector crashes.');
  if (tracesIntoItself(config))
    warnings.push(
      'ENABLE_SELF_TRACING=true: the endpoint is this collector itself. ' +
        "When it can't store spans, the traces that show why are missing, too.",
    );
  const limitMb = Math.floor(limitBytes / 1024 ** 2);
  const mostMb = mostMemoryMb(config);
  const { MEM_BUFFER_SIZE_MB, MAX_REQUEST_MB } = config;
  const defaults = memoryDefaults(limitBytes);
  if (mostMb > limitMb && MEM_BUFFER_SIZE_MB === defaults.MEM_BUFFER_SIZE_MB && MAX_REQUEST_MB === defaults.MAX_REQUEST_MB) {
    warnings.push(
      `The collector can use up to ${mostMb} MB, and the memory limit is ${limitMb} MB: ` +
        'more requests are refused, and large ones may never be accepted. 256 MB is the minimum.',
    );
  } else if (mostMb > limitMb) {
    warnings.push(
      `MEM_BUFFER_SIZE_MB=${MEM_BUFFER_SIZE_MB} and MAX_REQUEST_MB=${MAX_REQUEST_MB} can use up to ${mostMb} MB, ` +
        `and the memory limit is ${limitMb} MB: more requests are refused, and the largest may never be accepted.`,
    );
  }
  if (!config.CLICKHOUSE_ASYNC_INSERT) return warnings;
  if (!config.CLICKHOUSE_WAIT_FOR_ASYNC_INSERT)
    warnings.push('CLICKHOUSE_WAIT_FOR_ASYNC_INSERT=false: 200 no longer means stored. ClickHouse may lose what it has confirmed.');
  warnings.push(
    'CLICKHOUSE_ASYNC_INSERT=true: ClickHouse then deduplicates inserts only in Replicated tables. ' +
      'In others, a retry may store spans twice.',
  );
  return warnings;
}
