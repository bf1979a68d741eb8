import { requireNode } from './runtime/node-version.ts';

requireNode();
// Imported after the check, because older versions of Node can't load this module.
await import('./start.ts');
