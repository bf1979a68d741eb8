import { requireNode } from '../runtime/node-version.ts';

requireNode();
// Imported after the check, because older versions of Node can't load these modules.
const [{ runCommand }, { runRing }] = await Promise.all([import('./run-command.ts'), import('./ring-command.ts')]);
await runCommand(runRing);
