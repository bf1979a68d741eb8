/** Connections opened together must not end together: each ends at its age, and up to a tenth more or less. */
const AGE_JITTER = 0.1;

/** The age at which one connection is asked to end, in ms. @param maxAgeMs MAX_CONNECTION_AGE_MS */
export function jitteredAgeMs(maxAgeMs: number): number {
  return maxAgeMs * (1 + AGE_JITTER * (2 * Math.random() - 1));
}
