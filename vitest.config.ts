import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Long enough for a machine where many other processes run. `until` and `expect.poll` give up earlier, and say what they waited for.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 60_000 } },
    // Each file starts a ClickHouse of its own.
    maxWorkers: 2,
  },
});
