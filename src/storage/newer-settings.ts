import { ClickHouseError, type ClickHouseClient, type ClickHouseSettings } from '@clickhouse/client';
import { ACCESS_DENIED } from './grants.ts';
import { select } from './select.ts';

/** Further settings that an insert depends on (see `insertSettings`). A version of ClickHouse without one refuses inserts that name it. */
const NEWER_SETTINGS: ClickHouseSettings = {
  // Overrides insert_deduplicate.
  deduplicate_insert: 'enable',
  deduplicate_insert_select: 'enable_when_possible',
  // In our blocks, types are written as names.
  input_format_native_decode_types_in_binary_format: 0,
  // Otherwise rows could be written before the last block of the insert is read, in spite of min_insert_block_size_rows.
  use_strict_insert_block_limits: 0,
  // A bug of some versions (ClickHouse issue 84508): a search (lost-rows.ts) would skip parts because an earlier search, for other rows,
  // found nothing in them.
  use_query_condition_cache: 0,
};

/** Those of NEWER_SETTINGS that the server has; none if the user may not read system.settings. @throws other ClickHouseErrors */
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
