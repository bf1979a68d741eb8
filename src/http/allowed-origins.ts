import { hostname } from 'node:os';
import type { Config } from '../config/variables.ts';
import { foreignOrigin, type Refusal } from '../otlp/refusal.ts';
import { AllowedHosts } from './host.ts';

/**
 * The web pages that may send traces. Browsers let any page send a POST with certain content types, or with none, to any site, and only
 * hide the answer from the page. So requests of other sites' pages are refused here, and nothing of them is stored.
 */
export class AllowedOrigins {
  private readonly patterns: readonly RegExp[];
  private readonly allowsAll: boolean;
  private readonly ownHosts: AllowedHosts;

  constructor({ CORS_ALLOWED_ORIGINS: origins, DISABLE_AUTH: isOpen }: Pick<Config, 'CORS_ALLOWED_ORIGINS' | 'DISABLE_AUTH'>) {
    this.patterns = origins.map(originPattern);
    this.allowsAll = origins.includes('*');
    // Without authentication, a public host name may be that of a site which resolves it to an internal address (DNS rebinding).
    this.ownHosts = new AllowedHosts(isOpen ? [hostname()] : ['*']);
  }

  /**
   * The refusal of a request; undefined if it may be sent.
   * @param origin the header Origin, which only browsers send
   * @param host the header Host, or `:authority`: a page with the same host may send
   */
  refusal(origin: string | undefined, host: string | undefined): Refusal | undefined {
    if (origin === undefined || this.allowsAll || this.patterns.some((pattern) => pattern.test(origin))) return undefined;
    return isOwn(origin, host) && this.ownHosts.allows(host) ? undefined : foreignOrigin(origin);
  }
}

/** Whether the page has the same host. Both schemes match: the collector does not know whether TLS is terminated in front of it. */
function isOwn(origin: string, host: string | undefined): boolean {
  const own = origin.toLowerCase();
  return host !== undefined && host !== '' && (own === `http://${host.toLowerCase()}` || own === `https://${host.toLowerCase()}`);
}

/** The pattern of a configured origin. A `*` matches any characters, as in the Collector's otlp receiver. */
export function originPattern(origin: string): RegExp {
  return new RegExp(
    `^${origin
      .split('*')
      .map((text) => RegExp.escape(text))
      .join('.*')}$`,
    'i',
  );
}
