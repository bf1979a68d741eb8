import { setTimeout as sleep } from 'node:timers/promises';
import { loadConfig } from '../src/config/load-config.ts';
import { createStatements, defaultOptions } from '../src/schema/schema.ts';
import { createClickHouseClient } from '../src/storage/clickhouse.ts';
import { insertBlocks } from '../src/storage/insert.ts';
import { BlockEncoder } from '../src/transcode/block-encoder.ts';
import { gatewayProtobuf } from '../test/support/generators/payloads.ts';
import type { TestClickHouse } from '../test/support/servers/clickhouse.ts';
import { CLUSTER_NAME, startCluster } from '../test/support/servers/cluster.ts';
import { cpuSeconds } from './process-usage.ts';

/*
 * The cost for ClickHouse to distribute inserts over two shards: CPU per span on the server that gets the insert and on the other one, and
 * the bytes between them, compared with inserts into the first server's own table.
 */

const INSERTS = 20;
const BLOCKS_PER_INSERT = 50;
const SPANS_PER_BLOCK = 1_000;
const SPANS = INSERTS * BLOCKS_PER_INSERT * SPANS_PER_BLOCK;
/** Time for merges, which are included. */
const SETTLE_MS = 5_000;

const ways = [
  { name: 'its own table', table: 'otel_traces_local', shard: 0 },
  { name: 'Distributed, by trace', table: 'otel_traces', shard: 0 },
  { name: 'Distributed, all to the other shard', table: 'otel_traces', shard: 2 },
];

await using cluster = await startCluster();
const [first, second] = cluster.servers;
for (const server of cluster.servers) {
  for (const statement of createStatements({ ...defaultOptions, database: 'default', table: 'otel_traces', distributed: CLUSTER_NAME }))
    await server.command(statement);
}

console.log(`${SPANS} spans, ${SPANS_PER_BLOCK * BLOCKS_PER_INSERT} an insert; CPU µs and bytes a span`);
for (const [turn, way] of ways.entries()) console.log(way.name.padEnd(36), JSON.stringify(await measure(way, turn)));

async function measure({ table, shard }: (typeof ways)[number], turn: number) {
  const config = loadConfig({ CLICKHOUSE_URL: first.url, CLICKHOUSE_TABLE: table, DISABLE_AUTH: 'true' });
  const client = createClickHouseClient(config);
  for (const server of cluster.servers) await server.command('TRUNCATE TABLE otel_traces_local');
  const inserts = Array.from({ length: INSERTS }, (_, insert) => blocks(turn * INSERTS + insert));
  const before = await usage();
  for (const [i, frames] of inserts.entries()) {
    const outcome = await insertBlocks(client, config, frames, `${turn}-${i}`, { shard });
    if (outcome.status !== 'inserted') throw outcome.error;
  }
  await sleep(SETTLE_MS);
  const after = await usage();
  await client.close();
  const each = (key: keyof typeof before) => Number(((after[key] - before[key]) / SPANS).toFixed(2));
  return {
    takes: each('firstCpuUs'),
    other: each('secondCpuUs'),
    bytesBetween: each('bytesBetween'),
    bytesFromCollector: Number((inserts.flat().reduce((bytes, { length }) => bytes + length, 0) / SPANS).toFixed(1)),
    bytesOnDisk: await bytesOnDisk(),
  };
}

/** The blocks of one insert. No other insert has their trace ids. */
function blocks(insert: number): Buffer[] {
  return Array.from({ length: BLOCKS_PER_INSERT }, (_, i) => block(insert * BLOCKS_PER_INSERT + i));
}

function block(seed: number): Buffer {
  const encoder = new BlockEncoder('hive');
  encoder.add([gatewayProtobuf({ spans: SPANS_PER_BLOCK, seed }).body], 'protobuf', 'target');
  return encoder.seal().frame;
}

async function usage() {
  return {
    firstCpuUs: cpuSeconds(first.server.pid) * 1e6,
    secondCpuUs: cpuSeconds(second.server.pid) * 1e6,
    bytesBetween: await received(second),
  };
}

async function received(server: TestClickHouse): Promise<number> {
  const [row] = await server.query<{ bytes: string }>("SELECT sum(value) AS bytes FROM system.events WHERE event = 'NetworkReceiveBytes'");
  return Number(row.bytes);
}

async function bytesOnDisk(): Promise<number> {
  let bytes = 0;
  for (const server of cluster.servers) {
    const [row] = await server.query<{ bytes: string }>(
      "SELECT sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND table = 'otel_traces_local'",
    );
    bytes += Number(row.bytes);
  }
  return Number((bytes / SPANS).toFixed(1));
}
