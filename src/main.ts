import { requireNode } from './runtime/node-version.ts';

requireNode();
// Only now: what it imports is not to be had in older versions of Node.
await import('./start.ts');
