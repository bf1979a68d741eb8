import type { IncomingMessage } from 'node:http';
import { hostname } from 'node:os';
import { AllowedHosts } from '../http/host.ts';
import { foreignHost, foreignPage, type Refusal } from '../otlp/refusal.ts';

/** Paths that are answered under any Host: load balancers, kubelet and Prometheus ask for them, and senders that have the wrong port. */
const PROBES: ReadonlySet<string> = new Set(['/health', '/ready', '/metrics', '/v1/traces']);
/** Pages that a link on another site may open. */
const PAGES: ReadonlySet<string> = new Set(['/', '/debug/pprof', '/debug/pprof/']);

/**
 * What web pages of other sites may not do with the admin port by way of an operator's browser: read the status, start profiles.
 * Only a browser sends `Sec-Fetch-Site`, and only it can be made to send another site's name as `Host`.
 */
export class AdminGuard {
  private readonly hosts: AllowedHosts;

  /** @param allowedHosts ADMIN_ALLOWED_HOSTS */
  constructor(allowedHosts: readonly string[]) {
    this.hosts = new AllowedHosts([...allowedHosts, hostname()]);
  }

  /** The answer to a request that is not let in. */
  refusal({ url = '', headers }: IncomingMessage): Refusal | undefined {
    const [path = ''] = url.split('?', 1);
    if (!PROBES.has(path) && !this.hosts.allows(headers.host)) return foreignHost(headers.host ?? '');
    const site = headers['sec-fetch-site'];
    if (site === undefined || site === 'none' || site === 'same-origin') return undefined;
    const followsLink = headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document' && PAGES.has(path);
    return followsLink ? undefined : foreignPage();
  }
}
