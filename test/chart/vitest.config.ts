import { defineConfig } from 'vitest/config';

// Apart from `npm test`, as it needs Helm and Python: see tools.ts.
export default defineConfig({
  test: {
    include: ['test/chart/**/*.check.ts'],
    globalSetup: 'test/chart/tools.ts',
    testTimeout: 60_000,
    hookTimeout: 600_000,
  },
});
