import { Agent } from 'node:https';
import { createClient, ClickHouseLogLevel, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { readCredentials, type Credentials } from './credentials.ts';

/** The client of one server, the first if none is named. Blocks are compressed already: it compresses nothing. */
export function createClickHouseClient(
  config: Config,
  url = config.CLICKHOUSE_URL[0],
  credentials = readCredentials(config),
): ClickHouseClient {
  const inUrl = new URL(url);
  const { pathname, searchParams } = new URL(url);
  // The client would take the path for the name of a database, and parameters for options of its own.
  Object.assign(inUrl, { pathname: '/', search: '' });
  return createClient({
    url: inUrl,
    pathname,
    clickhouse_settings: Object.fromEntries(searchParams),
    // Those in the URL are preferred; the client says so each time, on stdout, where the log is.
    ...(inUrl.username === '' && { username: credentials.username }),
    ...(inUrl.password === '' && { password: credentials.password }),
    application: 'hive-otel-collector',
    request_timeout: config.CLICKHOUSE_TIMEOUT_MS,
    max_open_connections: maxConnections(config),
    log: { level: ClickHouseLogLevel.OFF },
    ...(url.startsWith('https:') && tls(credentials, maxConnections(config))),
  });
}

/** An agent of our own: the client's own certificates can't go with a password. */
function tls({ username, password, ca, cert, key }: Credentials, maxSockets: number) {
  const agent = { http_agent: new Agent({ keepAlive: true, maxSockets, ca, cert, key }) };
  if (cert === undefined || password !== '') return agent;
  return {
    ...agent,
    set_basic_auth_header: false,
    http_headers: { 'X-ClickHouse-User': username, 'X-ClickHouse-SSL-Certificate-Auth': 'on' },
  };
}

/** One for each insert worker, and one for the probe. */
function maxConnections(config: Config): number {
  return config.BATCH_WORKERS + 1;
}
