import { createHash } from 'node:crypto';
import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { clusterServers, distributedTable, isShardedByChance, type DistributedTable } from './distributed-table.ts';
import { select } from './select.ts';

/** Who remembers the tokens of a table's inserts. */
export interface DeduplicationDomain {
  /** The same for all servers that an insert may be repeated at; undefined: this one remembers for itself alone. */
  readonly sharedAs?: string;
  /** How many shards a Distributed table has that sends rows to them by chance: then the token says which takes them all. */
  readonly shards?: number;
}

/** What a server that will not say where its replicas or shards are answers, today and tomorrow. */
const NOT_TOLD: ReadonlySet<string> = new Set([
  '36', // BAD_ARGUMENTS
  '60', // UNKNOWN_TABLE: it has no Keeper but auxiliary ones
  '497', // ACCESS_DENIED
]);

const LOOPBACK = /^(127\.|::1$)/;

/** Asks a server who remembers the tokens of inserts into the table. @throws what ClickHouse says */
export async function findDeduplicationDomain(
  client: ClickHouseClient,
  { CLICKHOUSE_DATABASE: database, CLICKHOUSE_TABLE: table }: Config,
): Promise<DeduplicationDomain> {
  const [found] = await select<{ engine: string; uuid: string; engineFull: string }>(
    client,
    'SELECT engine, toString(uuid) AS uuid, engine_full AS engineFull FROM system.tables WHERE database = {database:String} AND name = {table:String}',
    { database, table },
  );
  if (found?.engine.startsWith('Shared')) return { sharedAs: `replicated ${found.uuid}` };
  if (found?.engine.startsWith('Replicated')) return ifTold(ofReplicas(client, database, table));
  if (found?.engine !== 'Distributed') return {};
  const distributed = distributedTable(found.engineFull);
  const memory = ofShards(client, distributed);
  // Without knowing the shards there is no choosing one, and a repeated insert would lose spans.
  return isShardedByChance(distributed) ? memory : ifTold(memory);
}

/** Who is not told takes each server for one that remembers for itself alone. */
async function ifTold(memory: Promise<DeduplicationDomain>): Promise<DeduplicationDomain> {
  try {
    return await memory;
  } catch (error) {
    if (error instanceof ClickHouseError && NOT_TOLD.has(error.code)) return {};
    throw error;
  }
}

/** The shard that takes a whole insert, the same each time, from 1; 0 if the table itself decides well. */
export function shardFor(token: string, { shards }: DeduplicationDomain): number {
  return shards === undefined ? 0 : 1 + (hash(token).readUInt32LE() % shards);
}

/** The place in Keeper that replicas share. */
async function ofReplicas(client: ClickHouseClient, database: string, table: string): Promise<DeduplicationDomain> {
  const [replica] = await select<{ path: string }>(
    client,
    'SELECT zookeeper_path AS path FROM system.replicas WHERE database = {database:String} AND table = {table:String}',
    { database, table },
  );
  return { sharedAs: replica && (await keeperNode(client, replica.path)) };
}

/** The path, and when it was created: independent clusters often have the same path, each in a Keeper of its own. */
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
 * The shards get the insert's token with their rows, and each row goes to the same shard by way of any server that knows the
 * same shards. Where these are addresses of the server's own, they say nothing of another server's.
 */
async function ofShards(client: ClickHouseClient, distributed: DistributedTable): Promise<DeduplicationDomain> {
  const servers = await clusterServers(client, distributed);
  const byChance = isShardedByChance(distributed);
  if (byChance && servers.length === 0) {
    throw new Error(
      `The cluster ${distributed.cluster} is not in system.clusters, and its table ${distributed.database}.${distributed.table} gets rows by chance: a retry would lose some. Shard by cityHash64(TraceId).`,
    );
  }
  const shards = byChance ? servers.at(-1)!.shard : undefined;
  if (servers.length === 0 || servers.some(({ address }) => LOOPBACK.test(address))) return { shards };
  return { sharedAs: `sharded ${distributed.cluster} ${hash(JSON.stringify([distributed, servers])).toString('hex')}`, shards };
}

function hash(text: string): Buffer {
  return createHash('sha1').update(text).digest().subarray(0, 8);
}
