import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import { explained, notClickHouse } from './wrong-server.ts';

/**
 * Runs a query with parameters and returns its rows.
 * @throws ClickHouseError, a network error, or WrongServerError if the server is no ClickHouse
 */
export async function select<Row>(
  client: ClickHouseClient,
  query: string,
  params: Record<string, string>,
  settings: ClickHouseSettings = {},
): Promise<Row[]> {
  const request = { query, query_params: params, clickhouse_settings: settings, format: 'JSONEachRow' } as const;
  const result = await client.query(request).catch((error: Error) => {
    throw explained(error);
  });
  // The client would read a page of HTML as no rows.
  if (result.response_headers['x-clickhouse-query-id'] === undefined) {
    result.close();
    throw notClickHouse('status 200 without the header X-ClickHouse-Query-Id');
  }
  return result.json<Row>();
}
