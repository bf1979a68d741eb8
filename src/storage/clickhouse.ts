import { Agent } from 'node:https';
import { createClient, ClickHouseLogLevel, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from '../config/variables.ts';
import { readCredentials, type Credentials } from './credentials.ts';

/**
 * Creates the client of one server, by default of the first in CLICKHOUSE_URL. It compresses nothing: blocks are compressed already.
 * @throws when a file of certificates or credentials can't be read
 */
export function createClickHouseClient(
  config: Config,
  url = config.CLICKHOUSE_URL[0],
  credentials = readCredentials(config),
): ClickHouseClient {
  const inUrl = new URL(url);
  const { pathname, searchParams } = new URL(url);
  // The client would read the path as the name of a database, and query parameters as its own options.
  Object.assign(inUrl, { pathname: '/', search: '' });
  return createClient({
    url: inUrl,
    pathname,
    clickhouse_settings: Object.fromEntries(searchParams),
    // Credentials in the URL take precedence. Given both, the client would print a warning to stdout each time, into the log.
    ...(inUrl.username === '' && { username: credentials.username }),
    ...(inUrl.password === '' && { password: credentials.password }),
    application: 'hive-otel-collector',
    request_timeout: config.CLICKHOUSE_TIMEOUT_MS,
    max_open_connections: maxConnections(config),
    log: { level: ClickHouseLogLevel.OFF },
    ...(url.startsWith('https:') && tls(credentials, maxConnections(config))),
  });
}

/** TLS options with an HTTPS agent of our own, because the client's certificate option can't be combined with a password. */
function tls({ username, password, ca, cert, key }: Credentials, maxSockets: number) {
  const agent = { http_agent: new Agent({ keepAlive: true, maxSockets, ca, cert, key }) };
  if (cert === undefined || password !== '') return agent;
  return {
    ...agent,
    set_basic_auth_header: false,
    http_headers: { 'X-ClickHouse-User': username, 'X-ClickHouse-SSL-Certificate-Auth': 'on' },
  };
}

/** One connection for each insert worker, and one for the probe. */
function maxConnections(config: Config): number {
  return config.BATCH_WORKERS + 1;
}
