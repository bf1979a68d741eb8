import type { IncomingHttpHeaders } from 'node:http';
import { Inject, Injectable, Logger } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import { authUnavailable, refusedByHive } from '../otlp/refusal.ts';
import { Histogram, SECONDS } from '../telemetry/histogram.ts';
import { RequestCounts } from '../telemetry/request-counts.ts';
import { RepeatedLine } from '../telemetry/repeated-line.ts';
import { Authenticator } from './authenticator.ts';
import { credentialsKey, type Credentials, requiredCredentials, usableCredentials } from './credentials.ts';
import { askHive, AuthOutage, type AuthVerdict } from './hive-auth.ts';
import type { Target } from './target.ts';

/** An accepted token is refreshed from this fraction of the TTL on, so that a client with steady traffic never waits for Hive. */
const REFRESH_FROM = 2 / 3;
/** The longest wait for Hive when the token is in the cache, but older than the TTL. */
const MAX_LOOKUP_WAIT_MS = 1_000;
/** The pause before the next lookup of a cached token after one failed. */
const RETRY_AFTER_MS = 3_000;
/** The longest time for which a thread keeps an accepted token that is due for a refresh. */
const MAX_KEPT_MS = 250;
/** The most lookups in flight. Above that, unknown tokens get 503 immediately. */
const MAX_LOOKUPS = 256;
/** The limit for cached tokens is higher, so that a flood of unknown tokens can't prevent their refresh. */
const MAX_LOOKUPS_WITH_REFRESHES = MAX_LOOKUPS + 64;

interface Accepted {
  readonly target: Target;
  readonly checkedAtMs: number;
  /** No lookup before this time, because the last one failed. On the clock of performance.now(), like all times here. */
  retryAtMs: number;
}

/** The target that credentials belong to, and how long a thread may cache this answer. */
export interface FoundTarget {
  readonly target: Target;
  readonly validForMs: number;
  /** Whether it is accepted because Hive does not answer. */
  readonly isStale: boolean;
}

interface Refused {
  readonly verdict: AuthVerdict & { status: 'refused' };
  readonly untilMs: number;
}

type Outcome = AuthVerdict | { readonly status: 'unavailable' };

interface Lookup {
  /** Never rejects. */
  readonly outcome: Promise<Outcome>;
  /** The outcome, or 'slow' after MAX_LOOKUP_WAIT_MS. All waiting requests share one timer. */
  prompt?: Promise<Outcome | 'slow'>;
}

/**
 * Authenticates requests: finds the target that the credentials belong to, by asking Hive, and caches the answers. By the age of an
 * accepted token:
 *
 *   ├── accepted ──────────┼── accepted, and refreshed ──┼── lookup, waits 1 s at most, then accepted ──┼── unknown
 *   0                 2/3 TTL                          TTL                                   AUTH_CACHE_STALE_MS
 *
 * After the TTL a token is accepted only if Hive does not answer. A refusal replaces an accepted token immediately, at any age.
 * Tokens are never logged.
 */
@Injectable()
export class AuthService extends Authenticator {
  /** Counts since the start, of requests or of lookups. */
  readonly stats: RequestCounts['auth'];
  /** Duration of each lookup, including its retries. */
  readonly lookupSeconds = new Histogram(SECONDS);
  /** Whether Hive answered the last lookup; true before the first. */
  isAnswering = true;

  // Two caches, so that a flood of wrong tokens can't evict the accepted ones.
  // Ages are kept in the entries: the TTLs of lru-cache would start a timer for every millisecond of traffic.
  private readonly accepted: LRUCache<string, Accepted>;
  private readonly refused: LRUCache<string, Refused>;
  // Not in the caches, so that a lookup in flight is never evicted, and is shared even if caching is off.
  private readonly lookups = new Map<string, Lookup>();
  private readonly noVerdict = new RepeatedLine(
    new Logger('Auth'),
    'warn',
    'The auth endpoint is not available; cached tokens are still accepted, others get 503',
  );

  constructor(
    @Inject(collectorConfig.KEY) private readonly config: Config,
    counts: RequestCounts,
  ) {
    super();
    this.stats = counts.auth;
    this.accepted = new LRUCache({ max: config.AUTH_CACHE_MAX_ENTRIES });
    this.refused = new LRUCache({ max: config.AUTH_CACHE_MAX_ENTRIES });
  }

  authenticateHeaders({ authorization, 'x-hive-target-ref': targetRef }: IncomingHttpHeaders): Target | Promise<Target> {
    return this.authenticate(authorization, typeof targetRef === 'string' ? targetRef : undefined);
  }

  accepts(headers: IncomingHttpHeaders): boolean | Promise<boolean> {
    if (this.config.DISABLE_AUTH) return true;
    const credentials = usableCredentials(headers);
    if (credentials === undefined) return false;
    const key = credentialsKey(credentials);
    const nowMs = performance.now();
    const known = this.accepted.peek(key);
    const ageMs = known === undefined ? Infinity : nowMs - known.checkedAtMs;
    if (ageMs < this.config.AUTH_CACHE_TTL_MS) return true;
    if (known !== undefined && ageMs < this.config.AUTH_CACHE_STALE_MS) {
      const lookup = this.refreshUnlessPaused(known, key, credentials);
      return lookup === undefined || promptOutcome(lookup).then((outcome) => outcome === 'slow' || outcome.status !== 'refused');
    }
    const refused = this.refused.peek(key);
    if (refused !== undefined && nowMs < refused.untilMs) return false;
    return this.lookUp(key, credentials, MAX_LOOKUPS)?.outcome.then(({ status }) => status === 'accepted') ?? false;
  }

  /**
   * Finds the target that the credentials may write to. Not a promise if it is in the cache, because this runs for every request.
   * @throws Refusal 401 or 400 for headers that are missing or too long; 400, 401, 403 or 404 when Hive refuses; 503 without a verdict
   */
  authenticate(authorization: string | undefined, targetRef: string | undefined): Target | Promise<Target> {
    const credentials = requiredCredentials(authorization, targetRef, this.config.DISABLE_AUTH);
    if (credentials === undefined) return this.accept({ id: targetRef || 'default' });
    const key = credentialsKey(credentials);
    const nowMs = performance.now();

    const known = this.accepted.get(key);
    if (known !== undefined) {
      const ageMs = nowMs - known.checkedAtMs;
      if (ageMs < this.config.AUTH_CACHE_TTL_MS) {
        if (ageMs >= this.config.AUTH_CACHE_TTL_MS * REFRESH_FROM) this.refreshUnlessPaused(known, key, credentials);
        this.stats.cacheHits++;
        return this.accept(known.target);
      }
      if (ageMs < this.config.AUTH_CACHE_STALE_MS) {
        const lookup = this.refreshUnlessPaused(known, key, credentials);
        return lookup === undefined ? this.acceptStale(known.target) : this.acceptUnlessRefused(known.target, lookup);
      }
    }

    const refused = this.refused.get(key);
    if (refused !== undefined && nowMs < refused.untilMs) {
      this.stats.cacheHits++;
      throw this.refuse(refused.verdict);
    }
    return this.acceptIfHiveDoes(key, credentials);
  }

  /** Authenticates a request for an ingest thread, which caches the answer. @throws Refusal as `authenticateHeaders` does */
  async find(headers: IncomingHttpHeaders): Promise<FoundTarget> {
    const target = await this.authenticateHeaders(headers);
    const { authorization = '', 'x-hive-target-ref': targetRef } = headers;
    const known = this.accepted.peek(credentialsKey({ authorization, targetRef: targetRef as string }));
    if (known === undefined) return { target, validForMs: 0, isStale: false };
    const { AUTH_CACHE_TTL_MS: ttlMs, AUTH_CACHE_STALE_MS: staleMs } = this.config;
    const ageMs = performance.now() - known.checkedAtMs;
    if (ageMs < ttlMs * REFRESH_FROM) return { target, validForMs: ttlMs * REFRESH_FROM - ageMs, isStale: false };
    // The token is due for a refresh: the thread must ask again soon, to get its outcome.
    const endMs = ageMs < ttlMs ? ttlMs : staleMs;
    return { target, validForMs: Math.min(MAX_KEPT_MS, ttlMs / 10, endMs - ageMs), isStale: ageMs >= ttlMs };
  }

  private async acceptIfHiveDoes(key: string, credentials: Credentials): Promise<Target> {
    const lookup = this.lookUp(key, credentials, MAX_LOOKUPS);
    const outcome = await lookup?.outcome;
    if (outcome === undefined || outcome.status === 'unavailable') {
      this.stats.unavailable++;
      throw authUnavailable();
    }
    if (outcome.status === 'refused') throw this.refuse(outcome);
    return this.accept({ id: outcome.targetId });
  }

  private async acceptUnlessRefused(target: Target, lookup: Lookup): Promise<Target> {
    const outcome = await promptOutcome(lookup);
    if (outcome === 'slow' || outcome.status === 'unavailable') return this.acceptStale(target);
    if (outcome.status === 'refused') throw this.refuse(outcome);
    return this.accept({ id: outcome.targetId });
  }

  private accept(target: Target): Target {
    this.stats.accepted++;
    return target;
  }

  private acceptStale(target: Target): Target {
    this.stats.staleServed++;
    return this.accept(target);
  }

  private refuse(verdict: Refused['verdict']): Error {
    this.stats.refused++;
    return refusedByHive(verdict.httpStatus, verdict.message);
  }

  /** Starts or joins a lookup of a cached token, unless the last one has just failed or too many are in flight. */
  private refreshUnlessPaused(known: Accepted, key: string, credentials: Credentials): Lookup | undefined {
    return performance.now() < known.retryAtMs ? undefined : this.lookUp(key, credentials, MAX_LOOKUPS_WITH_REFRESHES);
  }

  /** The lookup in flight for this key, or a new one; undefined if `limit` lookups are in flight. */
  private lookUp(key: string, credentials: Credentials, limit: number): Lookup | undefined {
    const underWay = this.lookups.get(key);
    if (underWay !== undefined) return underWay;
    if (this.lookups.size >= limit) return undefined;
    const lookup = { outcome: this.ask(key, credentials) };
    this.lookups.set(key, lookup);
    return lookup;
  }

  private async ask(key: string, credentials: Credentials): Promise<Outcome> {
    const startedAtMs = performance.now();
    this.stats.lookups++;
    try {
      const verdict = await askHive(this.config.HIVE_OTEL_AUTH_ENDPOINT ?? '', this.config.AUTH_TIMEOUT_MS, credentials);
      this.isAnswering = true;
      this.remember(key, verdict);
      return verdict;
    } catch (error) {
      this.lookupFailed(key, error);
      return { status: 'unavailable' };
    } finally {
      this.lookups.delete(key);
      this.lookupSeconds.observe((performance.now() - startedAtMs) / 1_000);
    }
  }

  private remember(key: string, verdict: AuthVerdict): void {
    const nowMs = performance.now();
    if (verdict.status === 'accepted') {
      if (this.config.AUTH_CACHE_TTL_MS > 0)
        this.accepted.set(key, { target: { id: verdict.targetId }, checkedAtMs: nowMs, retryAtMs: nowMs });
    } else {
      this.accepted.delete(key);
      if (this.config.AUTH_CACHE_REFUSED_TTL_MS > 0)
        this.refused.set(key, { verdict, untilMs: nowMs + this.config.AUTH_CACHE_REFUSED_TTL_MS });
    }
  }

  private lookupFailed(key: string, error: unknown): void {
    const nowMs = performance.now();
    this.stats.lookupFailures++;
    this.isAnswering = false;
    const known = this.accepted.peek(key);
    if (known !== undefined) known.retryAtMs = nowMs + RETRY_AFTER_MS;
    this.noVerdict.write({ cause: error instanceof AuthOutage ? error.message : 'unexpected' });
  }
}

function promptOutcome(lookup: Lookup): Promise<Outcome | 'slow'> {
  return (lookup.prompt ??= withMaxWait(lookup.outcome));
}

async function withMaxWait(outcome: Promise<Outcome>): Promise<Outcome | 'slow'> {
  const slow = Promise.withResolvers<'slow'>();
  const timer = setTimeout(slow.resolve, MAX_LOOKUP_WAIT_MS, 'slow');
  try {
    return await Promise.race([outcome, slow.promise]);
  } finally {
    clearTimeout(timer);
  }
}
