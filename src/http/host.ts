import { isIP } from 'node:net';

/** RFC 9110, 7.2, and RFC 3986, 3.2.2; with the zone of an address that RFC 6874 allows. It may be empty. */
const HOST = /^(?:\[[0-9a-f:.]+(?:%[\w.~%-]+)?\]|\[v[0-9a-f]+\.[\w.~!$&'()*+,;=:-]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9a-f]{2})*)(?::\d*)?$/i;

/** Whether it is what a header Host may say: a name or an address, and perhaps a port. */
export function isHost(text: string): boolean {
  return HOST.test(text);
}

/** Whether there is more than one header Host. @param rawHeaders name, value, name, … as they came */
export function hasSecondHost(rawHeaders: readonly string[]): boolean {
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at];
    if (name.length === 4 && name.toLowerCase() === 'host') hosts++;
  }
  return hosts > 1;
}

/** Names that can't be registered, so no site elsewhere resolves them to an address in here (RFC 6761, 6762, 8375; `.internal`: ICANN). */
const LOCAL_DOMAINS: readonly string[] = ['.localhost', '.local', '.internal', '.svc', '.home.arpa'];

/**
 * Which hosts a page may be asked for under. The name of a site elsewhere may come to resolve to an address in here
 * ("DNS rebinding"): then its scripts could read what is served here, as if it were theirs.
 */
export class AllowedHosts {
  private readonly names: ReadonlySet<string>;
  private readonly domains: readonly string[];
  private readonly allowsAll: boolean;

  /** @param patterns names, `*.domain` for all names below one, or `*` for all */
  constructor(patterns: readonly string[]) {
    const lower = patterns.map((pattern) => pattern.toLowerCase());
    this.allowsAll = lower.includes('*');
    this.names = new Set(lower.filter((pattern) => !pattern.startsWith('*')));
    this.domains = [...LOCAL_DOMAINS, ...lower.filter((pattern) => pattern.startsWith('*.')).map((pattern) => pattern.slice(1))];
  }

  /** @param host the header. Without one it is no browser that asks. */
  allows(host: string | undefined): boolean {
    if (this.allowsAll || host === undefined) return true;
    const name = host.replace(/:\d*$/, '').replace(/\.$/, '').toLowerCase();
    // A name without a dot is one of this network's: of a container, a Service, this machine.
    if (name.startsWith('[') || isIP(name) !== 0 || !name.includes('.')) return true;
    return this.names.has(name) || this.domains.some((domain) => name.endsWith(domain));
  }
}
