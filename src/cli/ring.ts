import { DiskBufferError } from '../disk-buffer/disk-buffer-error.ts';
import { runRingTool } from './ring-command.ts';
import { UsageError } from './terminal.ts';

try {
  process.exitCode = runRingTool(process.argv.slice(2));
} catch (error) {
  // A reader that has seen enough, as `head`, has closed the pipe.
  if ((error as NodeJS.ErrnoException).code !== 'EPIPE') {
    console.error(error instanceof DiskBufferError || error instanceof UsageError ? error.message : error);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}
