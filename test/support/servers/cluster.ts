import { startClickHouse, type TestClickHouse } from './clickhouse.ts';
import { freePorts } from './free-ports.ts';

/** ClickHouse servers that are the shards of one cluster, without replicas. */
export interface TestCluster extends AsyncDisposable {
  readonly servers: readonly TestClickHouse[];
  /** The URLs of all servers, for CLICKHOUSE_URL. */
  readonly urls: string;
}

export const CLUSTER_NAME = 'shards';

/** Starts the servers, without tables. */
export async function startCluster({
  shards = 2,
  users,
}: { readonly shards?: number; readonly users?: string } = {}): Promise<TestCluster> {
  const ports = await freePorts(shards);
  const configuration = `<remote_servers><${CLUSTER_NAME}>${ports.map(shard).join('')}</${CLUSTER_NAME}></remote_servers>`;
  const servers = await Promise.all(ports.map((tcpPort) => startClickHouse({ systemLogs: false, configuration, users, tcpPort })));
  return {
    servers,
    urls: servers.map(({ url }) => url).join(','),
    async [Symbol.asyncDispose]() {
      await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
    },
  };
}

function shard(port: number): string {
  return `<shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>${port}</port></replica></shard>`;
}
