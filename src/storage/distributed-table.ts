import type { ClickHouseClient, ClickHouseSettings } from '@clickhouse/client';
import { parseCall } from '../schema/column-type.ts';
import { quoteText, unquote } from '../schema/schema.ts';
import { select } from './select.ts';
import type { TableColumn } from './table-columns.ts';

/** A table that holds no rows, but sends them on to a table of the same kind on each shard of a cluster. */
export interface DistributedTable {
  readonly cluster: string;
  /** Of the shards' tables. */
  readonly database: string;
  readonly table: string;
  /** An expression of the row's columns; '' without one. */
  readonly shardBy: string;
}

/** A server of a cluster, as system.clusters has it. */
export interface ClusterServer {
  readonly shard: number;
  readonly host: string;
  readonly address: string;
  readonly port: number;
  /** Whether a row is sent to one replica of its shard, and these see to the rest. */
  readonly internalReplication: number;
}

/** The table of one shard's server. */
export interface ShardTable {
  /** 'shard 2, host:9000'. */
  readonly server: string;
  readonly engine: string;
  readonly engineFull: string;
  /** 1 if it has rows. */
  readonly filled: 0 | 1;
  readonly columns: readonly TableColumn[];
}

/** Who is not there is left out, and soon: what is asked of the shards must not keep the others from taking spans. */
const ANSWER_SOON: ClickHouseSettings = {
  skip_unavailable_shards: 1,
  connections_with_failover_max_tries: '1',
  handshake_timeout_ms: 2000,
  receive_timeout: 2,
};

/** @param engine `Distributed('cluster', 'database', 'table', key)`, as system.tables has it */
export function distributedTable(engine: string): DistributedTable {
  const [cluster = '', database = '', table = '', shardBy = ''] = parseCall(engine).args;
  return { cluster: unquote(cluster), database: unquote(database), table: unquote(table), shardBy };
}

/** Whether rows go to shards by chance. Sent again, they would not meet their first copies: some are lost, some stored twice. */
export function isShardedByChance({ shardBy }: DistributedTable): boolean {
  return shardBy === '' || /\b(rand|generate|now|rowNumber)\w*\(/i.test(shardBy);
}

/** Servers of the table's cluster, by shard. @throws what ClickHouse says, as that the user may not know */
export async function clusterServers(client: ClickHouseClient, table: DistributedTable): Promise<ClusterServer[]> {
  return select(
    client,
    `SELECT shard_num AS shard, host_name AS host, host_address AS address, port, internal_replication AS internalReplication
     FROM system.clusters WHERE cluster = {cluster:String} ORDER BY shard_num, replica_num`,
    { cluster: await clusterName(client, table) },
  );
}

/**
 * Whether the server that is asked is itself one of the cluster's: then it inserts into its own table as whoever inserts into the
 * Distributed one. Other servers are sent the rows as a user that the cluster's configuration names.
 * @throws what ClickHouse says, as that the user may not know
 */
export async function isShardItself(client: ClickHouseClient, table: DistributedTable): Promise<boolean> {
  const cluster = await clusterName(client, table);
  return (
    (await select(client, 'SELECT 1 FROM system.clusters WHERE cluster = {cluster:String} AND is_local LIMIT 1', { cluster })).length > 0
  );
}

/** Engines keep the names of macros: '{cluster}'. */
async function clusterName(client: ClickHouseClient, { cluster }: DistributedTable): Promise<string> {
  if (!cluster.includes('{')) return cluster;
  const macros = await select<{ macro: string; substitution: string }>(client, 'SELECT macro, substitution FROM system.macros', {});
  return macros.reduce((name, { macro, substitution }) => name.replaceAll(`{${macro}}`, substitution), cluster);
}

/** The tables behind a Distributed one, of the servers that answer. @throws what ClickHouse says, as that the user may not ask */
export async function shardTables(
  client: ClickHouseClient,
  { cluster, database, table }: Omit<DistributedTable, 'shardBy'>,
): Promise<ShardTable[]> {
  const of = (name: string) => `clusterAllReplicas(${quoteText(cluster)}, system.${name}) WHERE database = {database:String}`;
  const server = "concat('shard ', toString(_shard_num), ', ', hostName(), ':', toString(tcpPort())) AS server";
  const [tables, columns] = await Promise.all([
    select<Omit<ShardTable, 'columns'>>(
      client,
      `SELECT ${server}, engine, engine_full AS engineFull, coalesce(total_rows, 0) > 0 AS filled FROM ${of('tables')} AND name = {table:String} ORDER BY server`,
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
    // A server that has gone between the two questions is left to the next check.
    if (ofServer !== undefined) found.push({ server: name, engine, engineFull, filled, columns: ofServer });
  }
  return found;
}
