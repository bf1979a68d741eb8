import * as schema from '../schema/schema.ts';

export const { DEDUPLICATION_WINDOW } = schema;

/** What CLICKHOUSE_CREATE_SCHEMA creates: the statements for what is missing, in order, each harmless when repeated. Everything else is for `npm run schema`. */
export function createStatements(database: string, table: string): readonly string[] {
  return schema.createStatements({ ...schema.defaultOptions, database, table });
}
