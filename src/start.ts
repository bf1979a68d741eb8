import { failToStart, startApp, stopOnSignal } from './app.ts';
import { helpText } from './config/help.ts';
import { loadConfig } from './config/load-config.ts';
import { version } from './config/version.ts';

if (process.argv.includes('--help')) {
  process.stdout.write(helpText());
} else if (process.argv.includes('--version')) {
  process.stdout.write(`${version}\n`);
} else {
  try {
    // Here, and not only where Nest loads it: a wrong setting deserves one clear message, and no stack trace.
    loadConfig(process.env);
    const starting = startApp();
    // From the first moment on: a container's first process is sent signals that it must handle itself.
    stopOnSignal(async () => (await starting).app.close());
    await starting;
  } catch (error) {
    failToStart(error);
  }
}
