import { ClickHouseError, type ClickHouseClient, type ClickHouseSettings } from '@clickhouse/client';
import { select } from './select.ts';

/** What an insert depends on as well (see `insertSettings`), and not every ClickHouse has: one that lacks it refuses an insert that names it. */
const NEWER_SETTINGS: ClickHouseSettings = {
  // Overrides insert_deduplicate.
  deduplicate_insert: 'enable',
  deduplicate_insert_select: 'enable_when_possible',
  // Blocks have the names of types.
  input_format_native_decode_types_in_binary_format: 0,
  // Rows of an insert would be written before its last block is read, whatever min_insert_block_size_rows says.
  use_strict_insert_block_limits: 0,
  // A search (lost-rows.ts) would leave out what an earlier one had no use for, though that was for other rows: a bug of some
  // versions (ClickHouse issue 84508).
  use_query_condition_cache: 0,
};

const ACCESS_DENIED = '497';

/** Those of them that a server knows. A user who may not ask gets none. */
export async function newerSettings(client: ClickHouseClient): Promise<ClickHouseSettings> {
  try {
    const known = await select<{ name: string }>(
      client,
      `SELECT name FROM system.settings WHERE name IN (${Object.keys(NEWER_SETTINGS)
        .map((name) => `'${name}'`)
        .join(', ')})`,
      {},
    );
    return Object.fromEntries(known.map(({ name }) => [name, NEWER_SETTINGS[name]]));
  } catch (error) {
    if (error instanceof ClickHouseError && error.code === ACCESS_DENIED) return {};
    throw error;
  }
}
