import { ConfigError } from '../config/load-config.ts';
import { runDeadLettersTool } from './dead-letters-command.ts';
import { ReplayError } from './dead-letters-replay.ts';
import { UsageError } from './terminal.ts';

try {
  process.exitCode = await runDeadLettersTool(process.argv.slice(2));
} catch (error) {
  // A reader that has seen enough, as `head`, has closed the pipe.
  if ((error as NodeJS.ErrnoException).code !== 'EPIPE') {
    console.error(error instanceof ReplayError || error instanceof ConfigError || error instanceof UsageError ? error.message : error);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}
