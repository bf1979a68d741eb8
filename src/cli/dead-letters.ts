import { requireNode } from '../runtime/node-version.ts';

requireNode();
// Only now: older versions of Node can't load what they import.
const [{ runCommand }, { runDeadLetters }] = await Promise.all([import('./run-command.ts'), import('./dead-letters-command.ts')]);
await runCommand(runDeadLetters);
