import { ClickHouseError } from '@clickhouse/client';
import { ConfigError } from '../config/load-config.ts';
import { DiskBufferError } from '../disk-buffer/disk-buffer-error.ts';
import { WrongServerError } from '../storage/wrong-server.ts';
import { ReplayError } from './dead-letters-replay.ts';
import { SchemaError } from './schema-command.ts';
import { UsageError } from './terminal.ts';

/**
 * Runs a command line.
 * @returns the exit code: 0, or 1 if the command found the problem or difference that it checks for
 * @throws the error that stopped it
 */
export type Command = (args: readonly string[], env: NodeJS.ProcessEnv) => number | Promise<number>;

/** Errors whose message is all that an operator needs. Any other is a bug, and is printed with its stack. */
const EXPECTED = [UsageError, ConfigError, DiskBufferError, SchemaError, ReplayError, ClickHouseError, WrongServerError];

/**
 * Runs a command with the arguments of this process, prints its error, and sets the exit code: 2 for wrong usage or a wrong setting, 1
 * for other failures.
 */
export async function runCommand(command: Command): Promise<void> {
  try {
    process.exitCode = await command(process.argv.slice(2), process.env);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // The reader of the pipe has closed it, as `head` does.
    if (code === 'EPIPE') return;
    // A system error has a code. An AggregateError of several addresses has no message.
    const isExpected = code !== undefined || EXPECTED.some((type) => error instanceof type);
    console.error(isExpected ? message || code : error);
    process.exitCode = error instanceof UsageError || error instanceof ConfigError ? 2 : 1;
  }
}
