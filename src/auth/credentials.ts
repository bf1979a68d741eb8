import { hash } from 'node:crypto';

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
