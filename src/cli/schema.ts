import { ClickHouseError } from '@clickhouse/client';
import { ConfigError } from '../config/load-config.ts';
import { runSchemaCommand, SchemaError } from './schema-command.ts';
import { UsageError } from './terminal.ts';

try {
  process.exitCode = await runSchemaCommand(process.argv.slice(2), process.env);
} catch (error) {
  // A reader that has seen enough, as `head`, has closed the pipe.
  if ((error as NodeJS.ErrnoException).code !== 'EPIPE') {
    const isForOperators = error instanceof UsageError || error instanceof ConfigError || error instanceof SchemaError || error instanceof ClickHouseError;
    console.error(isForOperators || (error as NodeJS.ErrnoException).code !== undefined ? String((error as Error).message || (error as NodeJS.ErrnoException).code) : error);
    process.exitCode = error instanceof UsageError || error instanceof ConfigError ? 2 : 1;
  }
}
