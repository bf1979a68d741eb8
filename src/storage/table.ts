import * as schema from '../schema/schema.ts';

/** What CLICKHOUSE_CREATE_SCHEMA creates: a statement for each thing, in order, each harmless when repeated. Everything else is for `npm run schema`. */
export function createStatements(database: string, table: string): readonly string[] {
  return schema.createStatements({ ...schema.defaultOptions, database, table });
}
