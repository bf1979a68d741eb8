import { hash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { credentialsTooLong, missingCredentials, missingTargetRef, targetRefTooLong } from '../otlp/refusal.ts';

/**
 * Longest headers, in bytes. Far below the limits of auth endpoints (8 KB for one header in nginx, 16 KB for all in Node), so that no
 * endpoint refuses a header for its length.
 */
const MAX_AUTHORIZATION_BYTES = 4096;
const MAX_TARGET_REF_BYTES = 1024;

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

/** The credentials in both headers of a request; undefined if one is missing or too long. */
export function usableCredentials({ authorization, 'x-hive-target-ref': targetRef }: IncomingHttpHeaders): Credentials | undefined {
  if (!authorization || typeof targetRef !== 'string' || targetRef === '') return undefined;
  if (authorization.length > MAX_AUTHORIZATION_BYTES || targetRef.length > MAX_TARGET_REF_BYTES) return undefined;
  return { authorization, targetRef };
}

/**
 * The credentials in both headers of a request; undefined if none are needed.
 * @param isOpen DISABLE_AUTH
 * @throws Refusal 401 or 400 for headers that are missing or too long
 */
export function requiredCredentials(
  authorization: string | undefined,
  targetRef: string | undefined,
  isOpen: boolean,
): Credentials | undefined {
  if (targetRef !== undefined && targetRef.length > MAX_TARGET_REF_BYTES) throw targetRefTooLong(MAX_TARGET_REF_BYTES);
  if (isOpen) return undefined;
  if (!authorization) throw missingCredentials();
  if (authorization.length > MAX_AUTHORIZATION_BYTES) throw credentialsTooLong(MAX_AUTHORIZATION_BYTES);
  if (!targetRef) throw missingTargetRef();
  return { authorization, targetRef };
}
