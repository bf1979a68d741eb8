import { requireNode } from './runtime/node-version.ts';

requireNode();
// Only now: older versions of Node can't load what it imports.
await import('./start.ts');
