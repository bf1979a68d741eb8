import { hash } from 'node:crypto';

/**
 * Longest headers, in bytes. Far below the limits of auth endpoints (8 KB for one header in nginx, 16 KB for all in Node), so that no
 * endpoint refuses a header for its length.
 */
export const MAX_AUTHORIZATION_BYTES = 4096;
export const MAX_TARGET_REF_BYTES = 1024;

/** The client's credentials. Never logged, and never part of an error. */
export interface Credentials {
  /** The header Authorization, scheme included. */
  readonly authorization: string;
  /** The header X-Hive-Target-Ref. */
  readonly targetRef: string;
}

/**
 * The cache key of both headers: a hash, so that the cache holds no tokens. The length in front makes the boundary between the headers
 * part of the hash.
 */
export function credentialsKey(credentials: Credentials): string {
  return hash('sha256', `${credentials.authorization.length}:${credentials.authorization}${credentials.targetRef}`, 'base64');
}
