import { expect, test } from 'vitest';
import { Fuzzer } from '../support/clients/fuzzer.ts';

const RUNS = 2000;

// As `npm run fuzz`, which goes on for as long as you like.
test.each([
  ['hive', 1],
  ['otelcol', 2],
] as const)('nearly valid bodies are refused, or become the rows that the oracle reads, in the dialect %s', (dialect, firstSeed) => {
  const fuzzer = new Fuzzer(dialect);
  for (let seed = firstSeed; fuzzer.stats.runs < RUNS; seed += 2) fuzzer.block(seed);
  // Neither side of the comparison is idle.
  expect(fuzzer.stats.refused).toBeGreaterThan(RUNS / 4);
  expect(fuzzer.stats.rows).toBeGreaterThan(RUNS / 4);
});
