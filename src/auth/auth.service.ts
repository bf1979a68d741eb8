import type { IncomingHttpHeaders } from 'node:http';
import { Inject, Injectable, Logger } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { collectorConfig } from '../config/config.module.ts';
import type { Config } from '../config/variables.ts';
import {
  authUnavailable,
  credentialsTooLong,
  missingCredentials,
  missingTargetRef,
  refusedByHive,
  targetRefTooLong,
} from '../otlp/refusal.ts';
import { Histogram, SECONDS } from '../telemetry/histogram.ts';
import { RepeatedLine } from '../telemetry/repeated-line.ts';
import { credentialsKey, type Credentials, MAX_AUTHORIZATION_BYTES, MAX_TARGET_REF_BYTES } from './credentials.ts';
import { askHive, AuthOutage, type AuthVerdict } from './hive-auth.ts';
import type { Target } from './target.ts';

/** Refreshed from here on, in parts of the TTL, so that a steady sender never waits for Hive. */
const REFRESH_FROM = 2 / 3;
/** Longest wait for Hive of a sender whose token was good not long ago. */
const PATIENCE_MS = 1_000;
/** After a lookup of a known token failed, it is left alone for this long. */
const RETRY_AFTER_MS = 3_000;
/** Lookups under way at the same time. Past that, unknown tokens are answered 503 at once. */
const MAX_LOOKUPS = 256;
/** Known tokens may use a few more: a flood of unknown ones must not keep them from being checked. */
const MAX_LOOKUPS_WITH_REFRESHES = MAX_LOOKUPS + 64;

interface Accepted {
  readonly target: Target;
  readonly checkedAtMs: number;
  /** Not asked about before this moment, because the last time failed. */
  retryAtMs: number;
}

interface Refused {
  readonly verdict: AuthVerdict & { status: 'refused' };
  readonly untilMs: number;
}

type Outcome = AuthVerdict | { readonly status: 'unavailable' };

interface Lookup {
  /** Never rejects. */
  readonly outcome: Promise<Outcome>;
  /** The outcome, or 'slow' once PATIENCE_MS have passed. One timer, however many wait. */
  prompt?: Promise<Outcome | 'slow'>;
}

/**
 * Who is this, which target? Remembers what Hive said:
 *
 *   accepted ├── served ──────────┼── served, refreshed ──┼── waits a second at most, then served ──┼── unknown
 *            0              2/3 TTL                     TTL                              AUTH_CACHE_STALE_MS
 *
 * Past the TTL a token is served only because Hive can't be asked. A refusal takes its place at once, at any age.
 * Tokens are never logged.
 */
@Injectable()
export class AuthService {
  /** Counts since the start: requests in the first five, lookups at Hive in the others. */
  readonly stats = {
    accepted: 0,
    /** Refused by Hive, now or a moment ago. Missing headers don't count. */
    refused: 0,
    /** Answered 503. */
    unavailable: 0,
    /** Answered without waiting for Hive from what it said within the TTL. */
    cacheHits: 0,
    /** Accepted past the TTL, as Hive could not be asked. */
    staleServed: 0,
    /** A lookup is one question to Hive, its retries included. */
    lookups: 0,
    lookupFailures: 0,
  };
  /** Of each lookup, its retries included. */
  readonly lookupSeconds = new Histogram(SECONDS);
  /** Whether Hive has answered the last lookup; true before the first. */
  isAnswering = true;

  // Apart from each other, so that a flood of wrong tokens can't push out the good ones.
  // Ages are kept in the entries: the TTLs of lru-cache would start a timer for every millisecond of traffic.
  private readonly accepted: LRUCache<string, Accepted>;
  private readonly refused: LRUCache<string, Refused>;
  // Apart from the caches, so that a lookup under way is never evicted, and is shared even when nothing is remembered.
  private readonly lookups = new Map<string, Lookup>();
  private readonly noVerdict = new RepeatedLine(
    new Logger('Auth'),
    'warn',
    'The auth endpoint gives no verdict; known tokens go on, unknown ones are answered 503.',
  );

  constructor(@Inject(collectorConfig.KEY) private readonly config: Config) {
    this.accepted = new LRUCache({ max: config.AUTH_CACHE_MAX_ENTRIES });
    this.refused = new LRUCache({ max: config.AUTH_CACHE_MAX_ENTRIES });
  }

  /** `authenticate` for the headers of a request. */
  authenticateHeaders({ authorization, 'x-hive-target-ref': targetRef }: IncomingHttpHeaders): Target | Promise<Target> {
    return this.authenticate(authorization, typeof targetRef === 'string' ? targetRef : undefined);
  }

  /** Whether `authenticateHeaders` would have a target, now or when Hive has been asked. Counts nothing; never rejects. */
  accepts({ authorization, 'x-hive-target-ref': targetRef }: IncomingHttpHeaders): boolean | Promise<boolean> {
    if (this.config.DISABLE_AUTH) return true;
    if (!authorization || typeof targetRef !== 'string' || targetRef === '') return false;
    if (authorization.length > MAX_AUTHORIZATION_BYTES || targetRef.length > MAX_TARGET_REF_BYTES) return false;
    const credentials = { authorization, targetRef };
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
   * The target that these headers may write to. No promise when it is known already: this runs for every request.
   * @throws Refusal 401 and 400 for headers that are missing or too long, 400, 401, 403, 404 when Hive refuses, 503 when it can't be asked
   */
  authenticate(authorization: string | undefined, targetRef: string | undefined): Target | Promise<Target> {
    if (targetRef !== undefined && targetRef.length > MAX_TARGET_REF_BYTES) throw targetRefTooLong(MAX_TARGET_REF_BYTES);
    if (this.config.DISABLE_AUTH) return this.accept({ id: targetRef || 'default' });
    if (!authorization) throw missingCredentials();
    if (authorization.length > MAX_AUTHORIZATION_BYTES) throw credentialsTooLong(MAX_AUTHORIZATION_BYTES);
    if (!targetRef) throw missingTargetRef();

    const credentials = { authorization, targetRef };
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

  /** Asks Hive about a known token, unless that has just failed, or too many lookups are under way: it stays known meanwhile. */
  private refreshUnlessPaused(known: Accepted, key: string, credentials: Credentials): Lookup | undefined {
    return performance.now() < known.retryAtMs ? undefined : this.lookUp(key, credentials, MAX_LOOKUPS_WITH_REFRESHES);
  }

  /** The lookup under way for this key, or a new one; undefined when `limit` lookups are under way. */
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
  return (lookup.prompt ??= withPatience(lookup.outcome));
}

async function withPatience(outcome: Promise<Outcome>): Promise<Outcome | 'slow'> {
  const slow = Promise.withResolvers<'slow'>();
  const timer = setTimeout(slow.resolve, PATIENCE_MS, 'slow');
  try {
    return await Promise.race([outcome, slow.promise]);
  } finally {
    clearTimeout(timer);
  }
}
