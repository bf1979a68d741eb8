import { createHash } from 'node:crypto';
import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { clusterServers, distributedTable, isShardedByChance, type DistributedTable } from './distributed-table.ts';
import { select } from './select.ts';

/** The servers that share the deduplication log of a table, in which the tokens of its inserts are kept. */
export interface DeduplicationDomain {
  /** The same for all servers that may get a retry of each other's inserts; undefined if the server shares its log with no other. */
  readonly sharedAs?: string;
  /** The number of shards, if a Distributed table distributes rows at random: then each insert goes to one shard, chosen by its token. */
  readonly shards?: number;
}

/** Exceptions with which a server refuses to list its replicas or shards. A retry would not help. */
const NOT_LISTABLE: ReadonlySet<string> = new Set([
  '36', // BAD_ARGUMENTS
  '60', // UNKNOWN_TABLE: only auxiliary Keepers are configured
  '497', // ACCESS_DENIED
]);

const LOOPBACK = /^(127\.|::1$)/;

/**
 * Finds the deduplication domain of the configured table on one server.
 * @throws ClickHouseError; Error when rows are distributed at random over unknown shards
 */
export async function findDeduplicationDomain(
  client: ClickHouseClient,
  { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config,
): Promise<DeduplicationDomain> {
  const [found] = await select<{ engine: string; uuid: string; engineFull: string }>(
    client,
    `SELECT engine, toString(uuid) AS uuid, engine_full AS engineFull FROM system.tables
     WHERE database = {database:String} AND name = {table:String}`,
    { database, table },
  );
  if (found?.engine.startsWith('Shared')) return { sharedAs: `replicated ${found.uuid}` };
  if (found?.engine.startsWith('Replicated')) return ifListable(ofReplicas(client, database, table));
  if (found?.engine !== 'Distributed') return {};
  const distributed = distributedTable(found.engineFull);
  const domain = ofShards(client, distributed);
  // No shard can be chosen while the shards are unknown, and a retry would lose spans.
  return isShardedByChance(distributed) ? domain : ifListable(domain);
}

/** The domain; {} (the server's own log) if the server refuses to list its replicas or shards. */
async function ifListable(domain: Promise<DeduplicationDomain>): Promise<DeduplicationDomain> {
  try {
    return await domain;
  } catch (error) {
    if (error instanceof ClickHouseError && NOT_LISTABLE.has(error.code)) return {};
    throw error;
  }
}

/** The number of the shard, from 1, that takes a whole insert, the same for each retry; 0 if the table's sharding key decides. */
export function shardFor(token: string, { shards }: DeduplicationDomain): number {
  return shards === undefined ? 0 : 1 + (hash(token).readUInt32LE() % shards);
}

/** The domain of a Replicated table: its path in Keeper, which all replicas share. */
async function ofReplicas(client: ClickHouseClient, database: string, table: string): Promise<DeduplicationDomain> {
  const [replica] = await select<{ path: string }>(
    client,
    'SELECT zookeeper_path AS path FROM system.replicas WHERE database = {database:String} AND table = {table:String}',
    { database, table },
  );
  return { sharedAs: replica && (await keeperNode(client, replica.path)) };
}

/** The path, and when it was created: independent clusters, each with its own Keeper, often use the same path. */
async function keeperNode(client: ClickHouseClient, path: string): Promise<string | undefined> {
  const slash = path.lastIndexOf('/');
  const [node] = await select<{ transaction: string; seconds: string }>(
    client,
    `SELECT toString(czxid) AS transaction, toString(toUnixTimestamp(ctime)) AS seconds FROM system.zookeeper
      WHERE path = {parent:String} AND name = {name:String}`,
    { parent: path.slice(0, slash) || '/', name: path.slice(slash + 1) },
  );
  return node && `replicated ${path} ${node.transaction} ${node.seconds}`;
}

/**
 * The domain of a Distributed table. The shards get the insert's token with their rows, and any server with the same list of shards
 * sends each row to the same shard. A list with loopback addresses can't be compared with that of another server.
 */
async function ofShards(client: ClickHouseClient, distributed: DistributedTable): Promise<DeduplicationDomain> {
  const servers = await clusterServers(client, distributed);
  const byChance = isShardedByChance(distributed);
  if (byChance && servers.length === 0) {
    throw new Error(
      `The cluster ${distributed.cluster} is not in system.clusters, and its table ${distributed.database}.${distributed.table} ` +
        'distributes rows at random: a retry would lose some. Shard by cityHash64(TraceId).',
    );
  }
  const shards = byChance ? servers.at(-1)!.shard : undefined;
  if (servers.length === 0 || servers.some(({ address }) => LOOPBACK.test(address))) return { shards };
  return { sharedAs: `sharded ${distributed.cluster} ${hash(JSON.stringify([distributed, servers])).toString('hex')}`, shards };
}

function hash(text: string): Buffer {
  return createHash('sha1').update(text).digest().subarray(0, 8);
}
