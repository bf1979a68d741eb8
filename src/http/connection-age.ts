/** Connections that were opened together must not end together: the age of each is varied by up to a tenth. */
const AGE_JITTER = 0.1;

/** The age at which one connection ends, in ms. @param maxAgeMs MAX_CONNECTION_AGE_MS */
export function jitteredAgeMs(maxAgeMs: number): number {
  return maxAgeMs * (1 + AGE_JITTER * (2 * Math.random() - 1));
}
