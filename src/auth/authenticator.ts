import type { IncomingHttpHeaders } from 'node:http';
import type { Target } from './target.ts';

/** Finds the target that a request may write to. */
export abstract class Authenticator {
  /**
   * By two headers of the request. Not a promise if the answer is known, because this runs for every request.
   * @throws Refusal 401 or 400 for headers that are missing or too long; 400, 401, 403 or 404 when Hive refuses; 503 without a verdict
   */
  abstract authenticateHeaders(headers: IncomingHttpHeaders): Target | Promise<Target>;

  /** Whether `authenticateHeaders` would find a target, after a lookup if needed. Counts no request; never rejects. */
  abstract accepts(headers: IncomingHttpHeaders): boolean | Promise<boolean>;
}
