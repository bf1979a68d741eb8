import { addAbortSignal, Readable } from 'node:stream';
import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { qualified, quote } from '../schema/schema.ts';
import { wireColumns } from '../transcode/columns/native-block.ts';
import { InsertError } from './insert-error.ts';

export type InsertOutcome =
  | { readonly status: 'inserted' }
  /** Not stored, or nobody knows: send the same bytes under the same token again. */
  | { readonly status: 'retry'; readonly error: InsertError }
  /** These bytes will never be taken. Nothing of them is stored. */
  | { readonly status: 'poison'; readonly error: InsertError };

/** Of each end of an answer. ClickHouse's exceptions quote values, and say after them where they arose. */
const KEPT_ANSWER_BYTES = 8_192;

/** The names of all columns that are sent, quoted. */
export const INSERT_COLUMNS = wireColumns.map(({ name }) => quote(name)).join(', ');

export interface InsertOptions {
  /** Of a Distributed table, from 1, that takes all rows; 0 leaves each to the table's key. */
  readonly shard?: number;
  /** Settings that this server knows, and others may not. */
  readonly newer?: ClickHouseSettings;
}

/** As the client's exec() takes it. */
interface InsertRequest {
  readonly query: string;
  readonly values: Readable;
  readonly http_headers: Record<string, string>;
  readonly clickhouse_settings?: ClickHouseSettings;
}

/**
 * Sends blocks as one insert: their zstd frames one behind the other, which ClickHouse reads as one body.
 * @param token two inserts with the same token are stored once
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

/** Sends an insert with all that it depends on, its deadline too. */
export async function sendInsert(
  client: ClickHouseClient,
  config: Config,
  token: string,
  { shard = 0, newer }: InsertOptions,
  request: InsertRequest,
): Promise<InsertOutcome> {
  // The client's own timeout is of a silent socket, and ends where the answer begins.
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

/** To its end, as only then the connection is free for the next insert; the deadline cuts an endless one off. */
async function readAnswer(stream: Readable): Promise<string> {
  let kept = Buffer.alloc(0);
  for await (const piece of stream as AsyncIterable<Buffer>) {
    kept = Buffer.concat([kept, piece]);
    if (kept.length > 2 * KEPT_ANSWER_BYTES) kept = Buffer.concat([kept.subarray(0, KEPT_ANSWER_BYTES), kept.subarray(-KEPT_ANSWER_BYTES)]);
  }
  return kept.toString();
}

/** The statement that the blocks of all inserts are the data of. */
export function insertStatement(config: Config): string {
  return `${insertTarget(config)} (${INSERT_COLUMNS}) FORMAT Native`;
}

/** Its beginning, which names the table. */
export function insertTarget(config: Config): string {
  return `INSERT INTO ${tableOf(config)}`;
}

/** The name of the table, quoted. */
export function tableOf({ CLICKHOUSE_DATABASE, CLICKHOUSE_TABLE }: Pick<Config, 'CLICKHOUSE_DATABASE' | 'CLICKHOUSE_TABLE'>): string {
  return qualified({ database: CLICKHOUSE_DATABASE }, CLICKHOUSE_TABLE);
}

/** All that an insert depends on is said, so that no profile of the user changes it; what not every ClickHouse has, in newer-settings.ts. */
export function insertSettings(
  config: Pick<Config, 'CLICKHOUSE_ASYNC_INSERT' | 'CLICKHOUSE_WAIT_FOR_ASYNC_INSERT' | 'CLICKHOUSE_SKIP_INDEXES_ON_INSERT'>,
): ClickHouseSettings {
  return {
    async_insert: config.CLICKHOUSE_ASYNC_INSERT ? 1 : 0,
    wait_for_async_insert: config.CLICKHOUSE_WAIT_FOR_ASYNC_INSERT ? 1 : 0,
    async_insert_deduplicate: config.CLICKHOUSE_ASYNC_INSERT ? 1 : 0,
    insert_deduplicate: 1,
    deduplicate_blocks_in_dependent_materialized_views: 1,
    // All blocks of an insert are written together when the last is read: one that is refused in the middle has stored
    // nothing, and its halves may be sent under tokens of their own.
    min_insert_block_size_rows: String(Number.MAX_SAFE_INTEGER),
    min_insert_block_size_bytes: '0',
    // Spans arrive late: a day of its own for each of them must not fail the insert of all.
    throw_on_max_partitions_per_insert_block: 0,
    // A Distributed table confirms the insert when its shards have it, not when it lies in the queue for them.
    distributed_foreground_insert: 1,
    // Without a key each insert would go to a shard by chance, and its repetition to another.
    insert_distributed_one_random_shard: 0,
    // Of an INSERT SELECT (lost-rows.ts): several threads would each write a part of their own.
    max_insert_threads: '1',
    materialize_skip_indexes_on_insert: config.CLICKHOUSE_SKIP_INDEXES_ON_INSERT ? 1 : 0,
    wait_end_of_query: 1,
  };
}
