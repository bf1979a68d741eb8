import { hash } from 'node:crypto';

/**
 * Longest headers, in bytes: far below what an auth endpoint has room for (8 KB for one header in nginx, 16 KB for all in Node), so that
 * it never has to refuse one for its length.
 */
export const MAX_AUTHORIZATION_BYTES = 4096;
export const MAX_TARGET_REF_BYTES = 1024;

/** What the sender says of itself. Never logged, and never part of an error. */
export interface Credentials {
  /** The header Authorization, scheme included. */
  readonly authorization: string;
  /** The header X-Hive-Target-Ref. */
  readonly targetRef: string;
}

/**
 * One key for both headers. A hash, so that memory holds no tokens; the length in front,
 * so that nothing can be moved from one header to the other without changing the key.
 */
export function credentialsKey(credentials: Credentials): string {
  return hash('sha256', `${credentials.authorization.length}:${credentials.authorization}${credentials.targetRef}`, 'base64');
}
