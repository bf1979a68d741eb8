import { defineConfig } from 'vitest/config';

// Apart from `npm test`, as it needs Chromium: see browser.ts.
export default defineConfig({ test: { include: ['test/browser/**/*.check.ts'], testTimeout: 60_000, hookTimeout: 120_000 } });
