import { ClickHouseError } from '@clickhouse/client';
import { ConfigError } from '../config/load-config.ts';
import { DiskBufferError } from '../disk-buffer/disk-buffer-error.ts';
import { ReplayError } from './dead-letters-replay.ts';
import { SchemaError } from './schema-command.ts';
import { UsageError } from './terminal.ts';

/** Runs a command line. @returns the exit code: 0, or 1 if it found what it was asked to look for. @throws what stopped it */
export type Command = (args: readonly string[], env: NodeJS.ProcessEnv) => number | Promise<number>;

/** Errors whose message is all that an operator needs; any other is a fault of ours, and is printed with its stack. */
const EXPECTED = [UsageError, ConfigError, DiskBufferError, SchemaError, ReplayError, ClickHouseError];

/** Runs a command with the arguments of this process, and sets the exit code: 2 for wrong usage or a wrong setting, 1 for other failures. */
export async function runCommand(command: Command): Promise<void> {
  try {
    process.exitCode = await command(process.argv.slice(2), process.env);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // `head` and the like close the pipe when they have read enough.
    if (code === 'EPIPE') return;
    // A system error has a code. That of several addresses (AggregateError) has no message.
    const isExpected = code !== undefined || EXPECTED.some((type) => error instanceof type);
    console.error(isExpected ? message || code : error);
    process.exitCode = error instanceof UsageError || error instanceof ConfigError ? 2 : 1;
  }
}
