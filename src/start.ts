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
  // Before Nest does: a wrong setting is one message then, without what Nest says of it.
  loadConfig(process.env);
  const starting = startApp();
  // From the first moment on: a container's first process is sent signals that it must handle itself.
  stopOnSignal(async () => (await starting).app.close());
  await starting;
}
