import { ClickHouseError, type ClickHouseClient, type ClickHouseSettings } from '@clickhouse/client';
import { parseCall } from '../schema/column-type.ts';
import { quoteText, unquote } from '../schema/schema.ts';
import { select } from './select.ts';
import type { TableColumn } from './table-columns.ts';

/** A Distributed table: it stores no rows itself, but sends them to a local table on each shard of a cluster. */
export interface DistributedTable {
  readonly cluster: string;
  /** The database of the local tables on the shards. */
  readonly database: string;
  /** The name of the local tables on the shards. */
  readonly table: string;
  /** The sharding key, an expression of the row's columns; '' without one. */
  readonly shardBy: string;
}

/** A server of a cluster, as in system.clusters. */
export interface ClusterServer {
  /** From 1. */
  readonly shard: number;
  readonly host: string;
  readonly address: string;
  readonly port: number;
  /** 1 if a row is sent to one replica of its shard, which replicates it; 0 if it is sent to all of them. */
  readonly internalReplication: number;
}

/** The local table on one server of a shard. */
export interface ShardTable {
  /** For messages: 'shard 2, host:9000'. */
  readonly server: string;
  readonly engine: string;
  readonly engineFull: string;
  /** 1 if it has rows. */
  readonly filled: 0 | 1;
  readonly columns: readonly TableColumn[];
}

/** Leaves out unreachable servers after a short wait: questions to the shards must not delay inserts. */
const ANSWER_SOON: ClickHouseSettings = {
  skip_unavailable_shards: 1,
  connections_with_failover_max_tries: '1',
  handshake_timeout_ms: 2000,
  receive_timeout: 2,
};

/** Parses an engine. @param engine `Distributed('cluster', 'database', 'table', key)`, as in engine_full of system.tables */
export function distributedTable(engine: string): DistributedTable {
  const [cluster = '', database = '', table = '', shardBy = ''] = parseCall(engine).args;
  return { cluster: unquote(cluster), database: unquote(database), table: unquote(table), shardBy };
}

/** Whether rows are distributed to the shards at random. A retry would send them to other shards: some rows lost, some stored twice. */
export function isShardedByChance({ shardBy }: DistributedTable): boolean {
  return shardBy === '' || /\b(rand|generate|now|rowNumber)\w*\(/i.test(shardBy);
}

/** The servers of the table's cluster, ordered by shard. @throws ClickHouseError, also when the user may not read system.clusters */
export async function clusterServers(client: ClickHouseClient, table: DistributedTable): Promise<ClusterServer[]> {
  return select(
    client,
    `SELECT shard_num AS shard, host_name AS host, host_address AS address, port, internal_replication AS internalReplication
     FROM system.clusters WHERE cluster = {cluster:String} ORDER BY shard_num, replica_num`,
    { cluster: await clusterName(client, table) },
  );
}

/**
 * Whether the server belongs to the cluster itself. Then it inserts into its local table as the user who inserts into the Distributed
 * one. To other servers it sends rows as the user in the cluster's configuration.
 * @throws ClickHouseError, also when the user may not read system.clusters
 */
export async function isShardItself(client: ClickHouseClient, table: DistributedTable): Promise<boolean> {
  const cluster = await clusterName(client, table);
  return (
    (await select(client, 'SELECT 1 FROM system.clusters WHERE cluster = {cluster:String} AND is_local LIMIT 1', { cluster })).length > 0
  );
}

/** The cluster's name with macros expanded: engines keep '{cluster}' as it is. */
async function clusterName(client: ClickHouseClient, { cluster }: DistributedTable): Promise<string> {
  if (!cluster.includes('{')) return cluster;
  const macros = await select<{ macro: string; substitution: string }>(client, 'SELECT macro, substitution FROM system.macros', {});
  return macros.reduce((name, { macro, substitution }) => name.replaceAll(`{${macro}}`, substitution), cluster);
}

/** The local tables of a Distributed table, on all servers that answer. @throws ClickHouseError, also for a missing grant REMOTE */
export async function shardTables(
  client: ClickHouseClient,
  { cluster, database, table }: Omit<DistributedTable, 'shardBy'>,
): Promise<ShardTable[]> {
  const of = (name: string) => `clusterAllReplicas(${quoteText(cluster)}, system.${name}) WHERE database = {database:String}`;
  const server = "concat('shard ', toString(_shard_num), ', ', hostName(), ':', toString(tcpPort())) AS server";
  const [tables, columns] = await Promise.all([
    select<Omit<ShardTable, 'columns'>>(
      client,
      `SELECT ${server}, engine, engine_full AS engineFull, coalesce(total_rows, 0) > 0 AS filled
       FROM ${of('tables')} AND name = {table:String} ORDER BY server`,
      { database, table },
      ANSWER_SOON,
    ),
    select<TableColumn & { server: string }>(
      client,
      `SELECT ${server}, name, type, default_kind AS kind FROM ${of('columns')} AND table = {table:String}`,
      { database, table },
      ANSWER_SOON,
    ),
  ]);
  const columnsOf = Map.groupBy(columns, (column) => column.server);
  const found: ShardTable[] = [];
  for (const { server: name, engine, engineFull, filled } of tables) {
    const ofServer = columnsOf.get(name);
    // A server that became unreachable between the two queries is left to the next check.
    if (ofServer !== undefined) found.push({ server: name, engine, engineFull, filled, columns: ofServer });
  }
  return found;
}

/** As `shardTables`, but returns no tables if ClickHouse refuses the query: inserts must not wait for it. @throws a network error */
export async function shardTablesIfQueryable(client: ClickHouseClient, table: DistributedTable): Promise<ShardTable[]> {
  try {
    return await shardTables(client, table);
  } catch (error) {
    if (error instanceof ClickHouseError) return [];
    throw error;
  }
}
