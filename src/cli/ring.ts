import { requireNode } from '../runtime/node-version.ts';

requireNode();
// Only now: older versions of Node can't load what they import.
const [{ runCommand }, { runRing }] = await Promise.all([import('./run-command.ts'), import('./ring-command.ts')]);
await runCommand(runRing);
