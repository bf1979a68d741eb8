import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Vitest's 1 s is too short for a process that gets little of the processor.
    expect: { poll: { timeout: 20_000 } },
    // Each file starts a ClickHouse of its own.
    maxWorkers: 2,
  },
});
