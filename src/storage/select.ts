import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';

/** Runs a query with parameters and returns its rows. @throws ClickHouseError or a network error */
export async function select<Row>(
  client: ClickHouseClient,
  query: string,
  params: Record<string, string>,
  settings: ClickHouseSettings = {},
): Promise<Row[]> {
  const result = await client.query({ query, query_params: params, clickhouse_settings: settings, format: 'JSONEachRow' });
  return result.json<Row>();
}
