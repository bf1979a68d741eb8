import type { IncomingMessage } from 'node:http';
import { hostname } from 'node:os';
import { AllowedHosts } from '../http/host.ts';
import { foreignHost, foreignPage, type Refusal } from '../otlp/refusal.ts';

/** Paths that are answered for any Host: load balancers, kubelet and Prometheus request them, and senders with a wrong port. */
const PROBES: ReadonlySet<string> = new Set(['/health', '/ready', '/metrics', '/v1/traces']);
/** Pages that may be opened by a link on another site. */
const PAGES: ReadonlySet<string> = new Set(['/', '/debug/pprof', '/debug/pprof/']);

/**
 * Keeps web pages of other sites from using the admin port through an operator's browser: to read the status, or to start profiles.
 * Only browsers send `Sec-Fetch-Site`, and only browsers can be made to send another site's name as `Host`.
 */
export class AdminGuard {
  private readonly hosts: AllowedHosts;

  /** @param allowedHosts ADMIN_ALLOWED_HOSTS */
  constructor(allowedHosts: readonly string[]) {
    this.hosts = new AllowedHosts([...allowedHosts, hostname()]);
  }

  /** The refusal of a request: 403; undefined if it is allowed. */
  refusal({ url = '', headers }: IncomingMessage): Refusal | undefined {
    const [path = ''] = url.split('?', 1);
    if (!PROBES.has(path) && !this.hosts.allows(headers.host)) return foreignHost(headers.host ?? '');
    const site = headers['sec-fetch-site'];
    if (site === undefined || site === 'none' || site === 'same-origin') return undefined;
    const followsLink = headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document' && PAGES.has(path);
    return followsLink ? undefined : foreignPage();
  }
}
