import { requireNode } from '../runtime/node-version.ts';

requireNode();
// Only now: older versions of Node can't load what they import.
const [{ runCommand }, { runSchema }] = await Promise.all([import('./run-command.ts'), import('./schema-command.ts')]);
await runCommand(runSchema);
