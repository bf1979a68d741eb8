import { isIPv6 } from 'node:net';

/** Parameters of the requests themselves, or of how a request or its answer is written: a URL of a server may not set them. */
const OWN_PARAMETERS = /^(query|query_id|user|password|session_id|compress|decompress|default_format|param_.*)$/;

/**
 * What a server of CLICKHOUSE_URL is called: its origin, and the path if it has one. Credentials and query are left out, as they
 * may be secret. The disk buffer keeps this name, so that after a restart an insert goes to the same server again.
 */
export function serverName(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname.replace(/\/+$/, '')}`;
}

/** Whether requests can be sent to it. Credentials may be in it; a `%` in a password has to be written as `%25`. */
export function isServerUrl(url: string): boolean {
  try {
    const { hash, username, password, searchParams } = new URL(url);
    decodeURIComponent(username + password);
    const names = [...searchParams.keys()];
    // The client takes each parameter once.
    return hash === '' && new Set(names).size === names.length && !names.some((name) => OWN_PARAMETERS.test(name));
  } catch {
    return false;
  }
}

/** A host as it stands in a URL; undefined if it is none. */
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

/** The URL that CLICKHOUSE_PROTOCOL, CLICKHOUSE_HOST and CLICKHOUSE_PORT stand for. */
export function urlOfParts({ CLICKHOUSE_PROTOCOL: protocol, CLICKHOUSE_HOST: host, CLICKHOUSE_PORT: port }: Parts): string {
  return `${protocol}://${host}:${port ?? (protocol === 'https' ? 8443 : 8123)}`;
}

/** Whether a URL has those of the parts that are given. */
export function agrees(
  url: string,
  { CLICKHOUSE_PROTOCOL: protocol, CLICKHOUSE_HOST: host, CLICKHOUSE_PORT: port }: Partial<Parts>,
): boolean {
  const { protocol: scheme, hostname, port: given } = new URL(url);
  if (protocol !== undefined && scheme !== `${protocol}:`) return false;
  if (host !== undefined && hostname !== new URL(`${scheme}//${host}`).hostname) return false;
  return port === undefined || Number(given || (scheme === 'https:' ? 443 : 80)) === port;
}
