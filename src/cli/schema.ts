import { requireNode } from '../runtime/node-version.ts';

requireNode();
// Imported after the check, because older versions of Node can't load these modules.
const [{ runCommand }, { runSchema }] = await Promise.all([import('./run-command.ts'), import('./schema-command.ts')]);
await runCommand(runSchema);
