import { createStatements } from '../src/storage/table.ts';
import { wireColumns } from '../src/transcode/columns/native-block.ts';
import { startClickHouse, type TestClickHouse } from './support/servers/clickhouse.ts';
import { commandLine, positive } from './support/commands/command-line.ts';
import { Disagreement, type FuzzedBlock, Fuzzer } from './support/clients/fuzzer.ts';
import { comparableRow } from './support/oracle/native-rows.ts';
import { startProgress } from './support/commands/progress.ts';
import { Random } from './support/generators/random.ts';
import { fuzzRefusals } from './support/clients/refusal-fuzz.ts';
import { allRows } from './support/oracle/stored-rows.ts';

/** A run, with what it takes at its end. */
const SECONDS_PER_RUN = { alone: 0.0005, clickhouse: 0.001, collector: 0.05 };

const usage = `Compares what the transcoders make of nearly valid bodies with protobufjs and JSON.parse, in both encodings and dialects
(test/support/clients/fuzzer.ts). A finding ends the run and says how to reproduce it. Exit code 1 if there was one.

npm run fuzz -- [options]

  --runs N       number of bodies (default 100000)
  --seed N       seed of the random bodies (default 1)
  --all          continue after a finding
  --clickhouse   inserts the blocks into a real ClickHouse, reads them back, and those whose text is repaired also into JSON columns
  --collector    instead: N requests that mix good and bad spans go to the built collector (test/support/clients/refusal-fuzz.ts). Spans
                 acknowledged and not found, spans stored twice, and dead letters that hold a good row have to be 0
`;
const values = commandLine(usage, {
  runs: { type: 'string', default: '100000' },
  seed: { type: 'string', default: '1' },
  all: { type: 'boolean', default: false },
  clickhouse: { type: 'boolean', default: false },
  collector: { type: 'boolean', default: false },
});
const runs = positive('--runs', values.runs);
const seconds = runs * SECONDS_PER_RUN[values.collector ? 'collector' : values.clickhouse ? 'clickhouse' : 'alone'];
const what = values.collector ? 'requests' : 'bodies';
using progress = startProgress(`Tries ${runs.toLocaleString('en')} ${what}, seed ${values.seed}.`, { steps: 1, seconds });
progress.step(values.collector ? 'good and bad spans, through the collector' : 'nearly valid bodies', seconds);
const tick = (done: number) => progress.tick(`${done.toLocaleString('en')} of ${runs.toLocaleString('en')}`, done / runs);
if (values.collector) {
  const figures = await fuzzRefusals(new Random(Number(values.seed)), runs, tick);
  progress.clear();
  console.log(figures);
  process.exit(figures.acknowledgedAndNotFound + figures.storedTwice + figures.deadLettersWithAGoodRow === 0 ? 0 : 1);
}
const BLOCKS_PER_INSERT = 100;

const fuzzers = (['hive', 'otelcol'] as const).map((dialect) => new Fuzzer(dialect));
const clickhouse = values.clickhouse ? await startWithTable() : undefined;
let waiting: FuzzedBlock[] = [];

for (let seed = Number(values.seed); runsDone() < runs; seed++) {
  try {
    waiting.push(fuzzers[seed % 2].block(seed));
    tick(runsDone());
  } catch (error) {
    if (!(error instanceof Disagreement)) throw error;
    progress.line(error.message);
    process.exitCode = 1;
    if (!values.all) break;
  }
  if (waiting.length < BLOCKS_PER_INSERT) continue;
  if (clickhouse !== undefined) await compareStored(clickhouse);
  waiting = [];
}
if (clickhouse !== undefined) await compareStored(clickhouse);
await clickhouse?.[Symbol.asyncDispose]();
progress.clear();
for (const { stats } of fuzzers) console.log(stats);

function runsDone(): number {
  return fuzzers.reduce((sum, { stats }) => sum + stats.runs, 0);
}

async function startWithTable(): Promise<TestClickHouse> {
  const server = await startClickHouse({ systemLogs: false });
  const [createDatabase, createTable] = createStatements('default', 'otel_traces');
  await server.command(createDatabase);
  // Random times are decades old: without the TTL they stay.
  const withoutTtl = createTable.replace(/^TTL .*$/m, '');
  await server.command(withoutTtl);
  await server.command(
    withoutTtl
      .replace('otel_traces', 'otel_traces_json')
      .replaceAll('Map(LowCardinality(String), String)', 'JSON')
      .replaceAll(/^ *INDEX idx_(res|span)_attr.*$/gm, ''),
  );
  return server;
}

/** Inserts the blocks that wait, and compares what is then in the table with their rows. */
async function compareStored(server: TestClickHouse): Promise<void> {
  const columns = wireColumns.map(({ name }) => `\`${name}\``).join(', ');
  const settings = 'insert_deduplicate = 0, throw_on_max_partitions_per_insert_block = 0';
  const insert = (table: string, blocks: readonly FuzzedBlock[]) =>
    server.command(
      `INSERT INTO ${table} (${columns}) SETTINGS ${settings} FORMAT Native`,
      Buffer.concat(blocks.map(({ frame }) => frame)),
      { 'content-encoding': 'zstd' },
    );
  await insert('otel_traces', waiting);
  const texts = waiting.filter(({ isText }) => isText);
  await insert('otel_traces_json', texts);
  const [{ rows: inJson }] = await server.query<{ rows: string }>('SELECT count() AS rows FROM otel_traces_json');
  await server.command('TRUNCATE TABLE otel_traces_json');
  const wantedInJson = texts.reduce((sum, { rows }) => sum + rows.length, 0);
  if (Number(inJson) !== wantedInJson) throw new Error(`the table with JSON columns has ${inJson} rows for ${wantedInJson}`);
  const stored = (await allRows(server)).map(comparableRow).toSorted();
  await server.command('TRUNCATE TABLE otel_traces');
  const expected = waiting.flatMap(({ rows }) => rows.map(comparableRow)).toSorted();
  const wrong = expected.findIndex((row, index) => row !== stored[index]);
  if (wrong < 0 && stored.length === expected.length) return;
  console.error(`ClickHouse has ${stored.length} rows for ${expected.length}\nexpected ${expected[wrong]}\ngot ${stored[wrong]}`);
  process.exitCode = 1;
}
