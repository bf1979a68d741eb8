import { isIPv6 } from 'node:net';

/** Query parameters that the collector sets itself, or that change the format of a request or response: CLICKHOUSE_URL may not set them. */
const OWN_PARAMETERS = /^(query|query_id|user|password|session_id|compress|decompress|default_format|param_.*)$/;

/**
 * The name of a server of CLICKHOUSE_URL: its URL without credentials and query, which may be secret. The disk buffer stores this name,
 * so that after a restart an insert is retried at the same server.
 * @throws TypeError when `url` is no URL
 */
export function serverName(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname.replace(/\/+$/, '')}`;
}

/** Whether the URL is allowed in CLICKHOUSE_URL. It may contain credentials; a `%` in a password must be written as `%25`. */
export function isServerUrl(url: string): boolean {
  try {
    const { hash, username, password, searchParams } = new URL(url);
    decodeURIComponent(username + password);
    const names = [...searchParams.keys()];
    // The client would keep only one of several values of a parameter.
    return hash === '' && new Set(names).size === names.length && !names.some((name) => OWN_PARAMETERS.test(name));
  } catch {
    return false;
  }
}

/** A host name or IP address in the form for a URL (IPv6 in brackets); undefined if it is neither. */
export function urlHost(host: string): string | undefined {
  if (isIPv6(host)) return `[${host}]`;
  const isAlone = /^(\[[\da-f:.]+\]|[^\s:/?#@[\]\\]+)$/i.test(host);
  return isAlone && URL.canParse(`http://${host}`) ? host : undefined;
}

interface Parts {
  readonly CLICKHOUSE_PROTOCOL: 'http' | 'https';
  readonly CLICKHOUSE_HOST: string | undefined;
  readonly CLICKHOUSE_PORT: number | undefined;
}

/** The URL made of CLICKHOUSE_PROTOCOL, CLICKHOUSE_HOST and CLICKHOUSE_PORT; the default port is ClickHouse's. */
export function urlOfParts({ CLICKHOUSE_PROTOCOL: protocol, CLICKHOUSE_HOST: host, CLICKHOUSE_PORT: port }: Parts): string {
  return `${protocol}://${host}:${port ?? (protocol === 'https' ? 8443 : 8123)}`;
}

/** Whether a URL has the same protocol, host and port, as far as these are given. */
export function hasParts(
  url: string,
  { CLICKHOUSE_PROTOCOL: protocol, CLICKHOUSE_HOST: host, CLICKHOUSE_PORT: port }: Partial<Parts>,
): boolean {
  const { protocol: scheme, hostname, port: given } = new URL(url);
  if (protocol !== undefined && scheme !== `${protocol}:`) return false;
  if (host !== undefined && hostname !== new URL(`${scheme}//${host}`).hostname) return false;
  return port === undefined || Number(given || (scheme === 'https:' ? 443 : 80)) === port;
}
