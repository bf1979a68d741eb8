import { parseArgs } from 'node:util';
import { Disagreement, Fuzzer } from './support/fuzzer.ts';

/*
 * `npm run fuzz -- --runs N --seed S`: bodies that are nearly valid, in both encodings and dialects, against what
 * protobufjs and JSON.parse make of them (test/support/fuzzer.ts). A finding ends the run, and says how to repeat it.
 */
const { values } = parseArgs({ options: { runs: { type: 'string', default: '100000' }, seed: { type: 'string', default: '1' }, all: { type: 'boolean', default: false } } });
const runs = Number(values.runs);
const fuzzers = (['hive', 'otelcol'] as const).map((dialect) => new Fuzzer(dialect));
const done = () => fuzzers.reduce((sum, { stats }) => sum + stats.runs, 0);

let findings = 0;
for (let seed = Number(values.seed); done() < runs; seed++) {
  try {
    fuzzers[seed % 2].block(seed);
  } catch (error) {
    if (!(error instanceof Disagreement)) throw error;
    console.error(error.message);
    process.exitCode = 1;
    if (!values.all || ++findings > 10) break;
  }
}
for (const { stats } of fuzzers) console.log(stats);
