import { hostname } from 'node:os';
import type { Config } from '../config/variables.ts';
import { foreignOrigin, type Refusal } from '../otlp/refusal.ts';
import { AllowedHosts } from './host.ts';

/**
 * Which pages may send. A browser lets every page send a POST whose content type is none of its business, or that has none; it
 * keeps the answer from the page alone. So what a page of another site sends is refused here, and nothing of it is stored.
 */
export class AllowedOrigins {
  private readonly patterns: readonly RegExp[];
  private readonly allowsAll: boolean;
  private readonly ownHosts: AllowedHosts;

  constructor({ CORS_ALLOWED_ORIGINS: origins, DISABLE_AUTH: isOpen }: Pick<Config, 'CORS_ALLOWED_ORIGINS' | 'DISABLE_AUTH'>) {
    this.patterns = origins.map(originPattern);
    this.allowsAll = origins.includes('*');
    // Where no token is asked for, a public name may be that of a site that has resolved it to an address in here.
    this.ownHosts = new AllowedHosts(isOpen ? [hostname()] : ['*']);
  }

  /**
   * The answer to what a page may not send.
   * @param origin the header; only browsers send it
   * @param host the header Host, or `:authority`: a page that comes from the same place as the collector may send to it
   */
  refusal(origin: string | undefined, host: string | undefined): Refusal | undefined {
    if (origin === undefined || this.allowsAll || this.patterns.some((pattern) => pattern.test(origin))) return undefined;
    return isOwn(origin, host) && this.ownHosts.allows(host) ? undefined : foreignOrigin(origin);
  }
}

/** Whether TLS ends in front of the collector, it does not know. */
function isOwn(origin: string, host: string | undefined): boolean {
  const own = origin.toLowerCase();
  return host !== undefined && host !== '' && (own === `http://${host.toLowerCase()}` || own === `https://${host.toLowerCase()}`);
}

/** A `*` within an origin stands for any characters, as in the Collector's otlp receiver. */
export function originPattern(origin: string): RegExp {
  return new RegExp(
    `^${origin
      .split('*')
      .map((text) => RegExp.escape(text))
      .join('.*')}$`,
    'i',
  );
}
