import * as schema from '../schema/schema.ts';

/** The idempotent statements of CLICKHOUSE_CREATE_SCHEMA: the database, then the table. `npm run schema` creates everything else. */
export function createStatements(database: string, table: string): readonly string[] {
  return schema.createStatements({ ...schema.defaultOptions, database, table });
}
