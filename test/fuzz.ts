import { parseArgs } from 'node:util';
import { createStatements } from '../src/storage/table.ts';
import { wireColumns } from '../src/transcode/columns/native-block.ts';
import { Disagreement, type FuzzedBlock, Fuzzer } from './support/clients/fuzzer.ts';
import { fuzzRefusals } from './support/clients/refusal-fuzz.ts';
import { Random } from './support/generators/random.ts';
import { comparableRow } from './support/oracle/native-rows.ts';
import { allRows } from './support/oracle/stored-rows.ts';
import { startClickHouse, type TestClickHouse } from './support/servers/clickhouse.ts';

/*
 * `npm run fuzz -- --runs N --seed S`: bodies that are nearly valid, in both encodings and dialects, against what
 * protobufjs and JSON.parse make of them (test/support/clients/fuzzer.ts). A finding ends the run, or with --all is one of many,
 * and says how to repeat it. With --clickhouse, the blocks are also inserted into a real ClickHouse and read back, and those whose text is repaired
 * into a table with JSON columns as well.
 *
 * With --collector, requests that mix good and bad spans go to the built collector instead (test/support/clients/refusal-fuzz.ts), and the
 * figures are: spans acknowledged and not found, spans stored twice, dead letters that hold a good row. Each has to be 0.
 */
const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
    all: { type: 'boolean', default: false },
    clickhouse: { type: 'boolean', default: false },
    collector: { type: 'boolean', default: false },
  },
});
if (values.collector) {
  const figures = await fuzzRefusals(new Random(Number(values.seed)), Number(values.runs));
  console.log(figures);
  process.exit(figures.acknowledgedAndNotFound + figures.storedTwice + figures.deadLettersWithAGoodRow === 0 ? 0 : 1);
}
const BLOCKS_PER_INSERT = 100;

const fuzzers = (['hive', 'otelcol'] as const).map((dialect) => new Fuzzer(dialect));
const clickhouse = values.clickhouse ? await startWithTable() : undefined;
let waiting: FuzzedBlock[] = [];

for (let seed = Number(values.seed); runsDone() < Number(values.runs); seed++) {
  try {
    waiting.push(fuzzers[seed % 2].block(seed));
  } catch (error) {
    if (!(error instanceof Disagreement)) throw error;
    console.error(error.message);
    process.exitCode = 1;
    if (!values.all) break;
  }
  if (waiting.length < BLOCKS_PER_INSERT) continue;
  if (clickhouse !== undefined) await compareStored(clickhouse);
  waiting = [];
}
if (clickhouse !== undefined) await compareStored(clickhouse);
await clickhouse?.[Symbol.asyncDispose]();
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
  await server.command(withoutTtl.replace('otel_traces', 'otel_traces_json').replaceAll('Map(LowCardinality(String), String)', 'JSON').replaceAll(/^ *INDEX idx_(res|span)_attr.*$/gm, ''));
  return server;
}

/** Inserts the blocks that wait, and compares what is then in the table with their rows. */
async function compareStored(server: TestClickHouse): Promise<void> {
  const columns = wireColumns.map(({ name }) => `\`${name}\``).join(', ');
  const settings = 'insert_deduplicate = 0, throw_on_max_partitions_per_insert_block = 0';
  const insert = (table: string, blocks: readonly FuzzedBlock[]) =>
    server.command(`INSERT INTO ${table} (${columns}) SETTINGS ${settings} FORMAT Native`, Buffer.concat(blocks.map(({ frame }) => frame)), { 'content-encoding': 'zstd' });
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
