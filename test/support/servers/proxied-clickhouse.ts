import { afterAll, beforeAll } from 'vitest';
import { temporaryDir } from '../generators/ring-batching.ts';
import { type ClickHouseProxy, startProxy } from './clickhouse-proxy.ts';
import { startClickHouse, type TestClickHouse } from './clickhouse.ts';

/** A ClickHouse, a proxy in front of it, and a directory for disk buffers, for all tests of a file. */
export interface ProxiedClickHouse {
  readonly clickhouse: TestClickHouse;
  readonly proxy: ClickHouseProxy;
  readonly dir: { readonly path: string };
}

/** Call it at the top of a test file. Its properties can be used in the tests only. @param users as of TestClickHouseOptions */
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
