import type { IncomingHttpHeaders } from 'node:http';
import { Inject, Injectable } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import type { FoundTarget } from '../auth/auth.service.ts';
import { Authenticator } from '../auth/authenticator.ts';
import { credentialsKey, requiredCredentials, usableCredentials } from '../auth/credentials.ts';
import type { Target } from '../auth/target.ts';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { RequestCounts } from '../telemetry/request-counts.ts';
import { MainThread } from './main-thread.ts';
import type { CredentialHeaders } from './messages.ts';

interface Known extends FoundTarget {
  readonly untilMs: number;
}

/**
 * Authenticates requests in an ingest thread, by asking the main thread, which alone sends lookups to Hive. Accepted targets are cached
 * here for `FoundTarget.validForMs`. That is shorter than AUTH_CACHE_TTL_MS, so that the main thread can refresh the token in time.
 */
@Injectable()
export class RemoteAuth extends Authenticator {
  private readonly main: MainThread;
  private readonly counts: RequestCounts;
  private readonly isOpen: boolean;
  private readonly known: LRUCache<string, Known>;

  constructor(@Inject(collectorConfig.KEY) config: Config, main: MainThread, counts: RequestCounts) {
    super();
    this.main = main;
    this.counts = counts;
    this.isOpen = config.DISABLE_AUTH;
    this.known = new LRUCache({ max: config.AUTH_CACHE_MAX_ENTRIES });
  }

  authenticateHeaders(headers: IncomingHttpHeaders): Target | Promise<Target> {
    const { authorization, 'x-hive-target-ref': targetRef } = both(headers);
    const credentials = requiredCredentials(authorization, targetRef, this.isOpen);
    const { auth } = this.counts;
    if (credentials === undefined) {
      auth.accepted++;
      return { id: targetRef || 'default' };
    }
    const key = credentialsKey(credentials);
    const known = this.knownNow(key);
    if (known === undefined) return this.ask(key, both(headers));
    auth.accepted++;
    if (known.isStale) auth.staleServed++;
    else auth.cacheHits++;
    return known.target;
  }

  accepts(headers: IncomingHttpHeaders): boolean | Promise<boolean> {
    if (this.isOpen) return true;
    const credentials = usableCredentials(headers);
    if (credentials === undefined) return false;
    if (this.knownNow(credentialsKey(credentials)) !== undefined) return true;
    return this.main.call('accepts', both(headers)).catch(() => false);
  }

  private knownNow(key: string): Known | undefined {
    const known = this.known.get(key);
    return known !== undefined && performance.now() < known.untilMs ? known : undefined;
  }

  private async ask(key: string, headers: CredentialHeaders): Promise<Target> {
    const found = await this.main.call('authenticate', headers);
    if (found.validForMs > 0) this.known.set(key, { ...found, untilMs: performance.now() + found.validForMs });
    return found.target;
  }
}

/** The two headers that identify the sender and its target. */
function both({ authorization, 'x-hive-target-ref': targetRef }: IncomingHttpHeaders): CredentialHeaders {
  return { authorization, 'x-hive-target-ref': typeof targetRef === 'string' ? targetRef : undefined };
}
