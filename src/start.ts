import { failToStart, startApp, stopOnSignal } from './app.ts';
import { parseProgramOptions } from './cli/terminal.ts';
import { helpText } from './config/help.ts';
import { loadConfig } from './config/load-config.ts';
import { version } from './config/version.ts';

try {
  const options = parseProgramOptions(process.argv.slice(2));
  if (options.help) process.stdout.write(helpText());
  else if (options.version) process.stdout.write(`${version}\n`);
  else await start();
} catch (error) {
  failToStart(error);
}

async function start(): Promise<void> {
  // Validated before Nest starts, so that a wrong setting prints one message, without Nest's own.
  loadConfig(process.env);
  const starting = startApp();
  // Before the start has finished: as process 1 of a container, the process must handle signals itself.
  stopOnSignal(async () => (await starting).app.close());
  await starting;
}
