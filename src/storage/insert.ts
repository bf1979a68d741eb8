import { Readable } from 'node:stream';
import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { wireColumns } from '../transcode/native-block.ts';
import { InsertError } from './insert-error.ts';

export type InsertOutcome =
  | { readonly status: 'inserted' }
  /** Not stored, or nobody knows: send the same bytes under the same token again. */
  | { readonly status: 'retry'; readonly error: InsertError }
  /** These bytes will never be taken. */
  | { readonly status: 'poison'; readonly error: InsertError };

/**
 * Sends blocks as one insert: their zstd frames one behind the other, which ClickHouse reads as one body.
 * @param token two inserts with the same token are stored once
 */
export async function insertBlocks(client: ClickHouseClient, config: Config, frames: readonly Buffer[], token: string): Promise<InsertOutcome> {
  try {
    const { stream, response_headers: headers } = await client.exec({
      query: insertStatement(config),
      values: Readable.from(frames, { objectMode: false }),
      http_headers: { 'Content-Encoding': 'zstd' },
      clickhouse_settings: { ...insertSettings(config), insert_deduplication_token: token },
    });
    // The connection is free for the next insert only when the answer, which is empty, has been read.
    await stream.resume().toArray();
    const exception = headers['x-clickhouse-exception-code'];
    return exception === undefined ? { status: 'inserted' } : failed(InsertError.fromHeader(String(exception)));
  } catch (error) {
    return failed(InsertError.from(error));
  }
}

function failed(error: InsertError): InsertOutcome {
  return { status: error.retryable ? 'retry' : 'poison', error };
}

function insertStatement(config: Config): string {
  const columns = wireColumns.map(({ name }) => `\`${name}\``).join(', ');
  return `INSERT INTO \`${config.CLICKHOUSE_DATABASE}\`.\`${config.CLICKHOUSE_TABLE}\` (${columns}) FORMAT Native`;
}

/** All that an insert depends on is said, so that no profile of the user changes it. */
function insertSettings(config: Config): ClickHouseSettings {
  return {
    async_insert: config.CLICKHOUSE_ASYNC_INSERT ? 1 : 0,
    wait_for_async_insert: config.CLICKHOUSE_WAIT_FOR_ASYNC_INSERT ? 1 : 0,
    insert_deduplicate: 1,
    deduplicate_blocks_in_dependent_materialized_views: 1,
    // Spans arrive late: a day of its own for each of them must not fail the insert of all.
    throw_on_max_partitions_per_insert_block: 0,
    // A Distributed table confirms the insert when its shards have it, not when it lies in the queue for them.
    distributed_foreground_insert: 1,
    materialize_skip_indexes_on_insert: config.CLICKHOUSE_SKIP_INDEXES_ON_INSERT ? 1 : 0,
    wait_end_of_query: 1,
  };
}
