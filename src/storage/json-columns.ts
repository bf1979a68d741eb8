import type { ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { select } from './select.ts';

/** Columns of the table that take no text but UTF-8: those of the type JSON. @throws what ClickHouse says */
export async function jsonColumns(client: ClickHouseClient, { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config): Promise<string[]> {
  const columns = await select<{ name: string; type: string }>(client, 'SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}', { database, table });
  return columns.filter(({ type }) => /\b(?:JSON|Object)\b/.test(type)).map(({ name }) => name);
}
