import { isIP } from 'node:net';

/** RFC 9110, 7.2, and RFC 3986, 3.2.2, with the zone of an address as in RFC 6874. May be empty. */
const HOST = /^(?:\[[0-9a-f:.]+(?:%[\w.~%-]+)?\]|\[v[0-9a-f]+\.[\w.~!$&'()*+,;=:-]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9a-f]{2})*)(?::\d*)?$/i;

/** Whether the text is a valid Host header: a name or an address, optionally with a port. */
export function isHost(text: string): boolean {
  return HOST.test(text);
}

/** Whether there are several Host headers. @param rawHeaders names and values, alternating */
export function hasSecondHost(rawHeaders: readonly string[]): boolean {
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at];
    if (name.length === 4 && name.toLowerCase() === 'host') hosts++;
  }
  return hosts > 1;
}

/** Domains that can't be registered, so that no external site can use them (RFC 6761, 6762, 8375; `.internal`: ICANN). */
const LOCAL_DOMAINS: readonly string[] = ['.localhost', '.local', '.internal', '.svc', '.home.arpa'];

/**
 * The host names under which pages may be requested. An external site can resolve its own name to an internal address ("DNS
 * rebinding"): its scripts could then read these pages as if they were its own.
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

  /** Whether a request with this Host header is allowed. Without one, the client is no browser. */
  allows(host: string | undefined): boolean {
    if (this.allowsAll || host === undefined) return true;
    const name = host.replace(/:\d*$/, '').replace(/\.$/, '').toLowerCase();
    // A name without a dot is internal: that of a container, a Service, or this machine.
    if (name.startsWith('[') || isIP(name) !== 0 || !name.includes('.')) return true;
    return this.names.has(name) || this.domains.some((domain) => name.endsWith(domain));
  }
}
