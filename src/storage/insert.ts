import { addAbortSignal, Readable } from 'node:stream';
import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { qualified, quote } from '../schema/schema.ts';
import { wireColumns } from '../transcode/columns/native-block.ts';
import { InsertError } from './insert-error.ts';

/** The result of sending an insert once. */
export type InsertOutcome =
  | { readonly status: 'inserted' }
  /** Not stored, or unknown: send the same bytes again, with the same token. */
  | { readonly status: 'retry'; readonly error: InsertError }
  /** ClickHouse will never take these bytes. Nothing of them is stored. */
  | { readonly status: 'poison'; readonly error: InsertError };

/** Bytes kept of the start and of the end of a response. An exception quotes values, which may be long, and has its origin at the end. */
const KEPT_ANSWER_BYTES = 8_192;

/** The names of all inserted columns, quoted and separated by commas. */
export const INSERT_COLUMNS = wireColumns.map(({ name }) => quote(name)).join(', ');

/** What differs between the servers that an insert may be sent to. */
export interface InsertOptions {
  /** The shard of a Distributed table that takes all rows, from 1; 0 leaves each row to the sharding key. */
  readonly shard?: number;
  /** Settings that this server's version of ClickHouse has (newer-settings.ts). */
  readonly newer?: ClickHouseSettings;
}

/** Parameters of the client's exec(). */
interface InsertRequest {
  readonly query: string;
  readonly values: Readable;
  readonly http_headers: Record<string, string>;
  readonly clickhouse_settings?: ClickHouseSettings;
}

/**
 * Sends blocks as one insert. The body is their zstd frames, concatenated, which ClickHouse decompresses as one stream. Never rejects.
 * @param token the deduplication token: of several inserts with the same token, ClickHouse stores one
 */
export async function insertBlocks(
  client: ClickHouseClient,
  config: Config,
  frames: readonly Buffer[],
  token: string,
  options: InsertOptions = {},
): Promise<InsertOutcome> {
  return sendInsert(client, config, token, options, {
    query: insertStatement(config),
    values: Readable.from(frames, { objectMode: false }),
    http_headers: { 'Content-Encoding': 'zstd' },
  });
}

/** Sends an insert with its settings and a deadline of CLICKHOUSE_TIMEOUT_MS. Never rejects. */
export async function sendInsert(
  client: ClickHouseClient,
  config: Config,
  token: string,
  { shard = 0, newer }: InsertOptions,
  request: InsertRequest,
): Promise<InsertOutcome> {
  // The client's own timeout limits only the silence of a socket, and ends when the response begins.
  const deadline = AbortSignal.timeout(config.CLICKHOUSE_TIMEOUT_MS);
  try {
    const answer = await client.exec({
      ...request,
      clickhouse_settings: {
        ...request.clickhouse_settings,
        ...insertSettings(config),
        ...newer,
        insert_deduplication_token: token,
        insert_shard_id: String(shard),
      },
      ignore_error_response: true,
      abort_signal: deadline,
    });
    const body = await readAnswer(addAbortSignal(deadline, answer.stream));
    return outcomeOf(InsertError.fromAnswer({ status: answer.http_status_code ?? 0, headers: answer.response_headers, body }));
  } catch (error) {
    return outcomeOf(
      deadline.aborted
        ? InsertError.timeout(`No answer within ${config.CLICKHOUSE_TIMEOUT_MS} ms (CLICKHOUSE_TIMEOUT_MS)`, error)
        : InsertError.fromNetwork(error),
    );
  }
}

function outcomeOf(error: InsertError | undefined): InsertOutcome {
  if (error === undefined) return { status: 'inserted' };
  return { status: error.retryable ? 'retry' : 'poison', error };
}

/** Reads the response to its end, which frees the connection for the next insert. The deadline aborts an endless response. */
async function readAnswer(stream: Readable): Promise<string> {
  let kept = Buffer.alloc(0);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    kept = Buffer.concat([kept, chunk]);
    if (kept.length > 2 * KEPT_ANSWER_BYTES) kept = Buffer.concat([kept.subarray(0, KEPT_ANSWER_BYTES), kept.subarray(-KEPT_ANSWER_BYTES)]);
  }
  return kept.toString();
}

/** The INSERT statement; the blocks are its data. */
export function insertStatement(config: Config): string {
  return `${insertTarget(config)} (${INSERT_COLUMNS}) FORMAT Native`;
}

/** The start of the INSERT statement, up to the table's name. */
export function insertTarget(config: Config): string {
  return `INSERT INTO ${tableOf(config)}`;
}

/** The table's name with its database, quoted. */
export function tableOf({ CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE }: Pick<Config, 'CLICKHOUSE_DATABASE' | 'CLICKHOUSE_TABLE'>): string {
  return qualified({ database: CLICKHOUSE_DATABASE }, CLICKHOUSE_TABLE);
}

/**
 * All settings that an insert depends on, so that no settings profile of the user can change it. Those that not every ClickHouse has
 * are in newer-settings.ts.
 */
export function insertSettings(
  config: Pick<Config, 'CLICKHOUSE_ASYNC_INSERT' | 'CLICKHOUSE_WAIT_FOR_ASYNC_INSERT' | 'CLICKHOUSE_SKIP_INDEXES_ON_INSERT'>,
): ClickHouseSettings {
  return {
    async_insert: config.CLICKHOUSE_ASYNC_INSERT ? 1 : 0,
    wait_for_async_insert: config.CLICKHOUSE_WAIT_FOR_ASYNC_INSERT ? 1 : 0,
    async_insert_deduplicate: config.CLICKHOUSE_ASYNC_INSERT ? 1 : 0,
    insert_deduplicate: 1,
    deduplicate_blocks_in_dependent_materialized_views: 1,
    // ClickHouse writes all blocks of an insert together, when it has read the last one: if it refuses one of them, nothing is stored,
    // and the halves of the insert may be sent with tokens of their own.
    min_insert_block_size_rows: String(Number.MAX_SAFE_INTEGER),
    min_insert_block_size_bytes: '0',
    // Late spans may be of many different days, which must not fail the whole insert.
    throw_on_max_partitions_per_insert_block: 0,
    // A Distributed table confirms the insert when the shards have stored it, not when it is queued for them.
    distributed_foreground_insert: 1,
    // Without a sharding key, each insert would go to a random shard, and its retry to another.
    insert_distributed_one_random_shard: 0,
    // For INSERT SELECT (lost-rows.ts): with several threads, each would write a part of its own.
    max_insert_threads: '1',
    materialize_skip_indexes_on_insert: config.CLICKHOUSE_SKIP_INDEXES_ON_INSERT ? 1 : 0,
    wait_end_of_query: 1,
  };
}
