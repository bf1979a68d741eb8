import { afterAll, beforeAll } from 'vitest';
import { temporaryDir } from '../generators/ring-batching.ts';
import { type ClickHouseProxy, startProxy } from './clickhouse-proxy.ts';
import { startClickHouse, type TestClickHouse } from './clickhouse.ts';

/** For all tests of a file: a ClickHouse with these users, a proxy before it, and a directory for disk buffers. */
export interface ProxiedClickHouse {
  readonly clickhouse: TestClickHouse;
  readonly proxy: ClickHouseProxy;
  readonly dir: { readonly path: string };
}

/** To be called where a file of tests begins; what it returns is there when they run. */
export function proxiedClickHouse(users: string): ProxiedClickHouse {
  const dir = temporaryDir();
  let clickhouse: TestClickHouse;
  let proxy: ClickHouseProxy;
  beforeAll(async () => {
    clickhouse = await startClickHouse({ systemLogs: false, users });
    proxy = await startProxy(clickhouse);
  });
  afterAll(async () => {
    await proxy[Symbol.asyncDispose]();
    await clickhouse[Symbol.asyncDispose]();
    dir.remove();
  });
  return {
    get clickhouse() {
      return clickhouse;
    },
    get proxy() {
      return proxy;
    },
    dir,
  };
}
