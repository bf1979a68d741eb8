/**
 * How many values were how large: what Prometheus calls a histogram. To observe one costs a walk along a dozen numbers,
 * which a request can bear; prom-client's own makes a key of the labels each time.
 */
export class Histogram {
  /** Largest value of each bucket, ascending. One bucket more takes what is beyond. */
  readonly bounds: readonly number[];
  readonly counts: Float64Array;
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const { bounds } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]) bucket++;
    this.counts[bucket]++;
    this.sum += value;
  }
}

/** Buckets for waits, in seconds. */
export const SECONDS: readonly number[] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/**
 * The value that a part of all values, say 0.99, is not above. Within a bucket they count as spread evenly, as in
 * Prometheus' histogram_quantile; beyond the last bound, it is that bound.
 * @param counts of each bucket, `bounds.length + 1` of them
 * @returns NaN without any values
 */
export function quantile(part: number, bounds: readonly number[], counts: ArrayLike<number>): number {
  let total = 0;
  for (let bucket = 0; bucket < counts.length; bucket++) total += counts[bucket];
  let missing = part * total;
  if (total === 0) return Number.NaN;
  for (let bucket = 0; bucket < bounds.length; bucket++) {
    if (counts[bucket] >= missing) {
      const lower = bucket === 0 ? 0 : bounds[bucket - 1];
      return lower + (bounds[bucket] - lower) * (missing / counts[bucket]);
    }
    missing -= counts[bucket];
  }
  return bounds[bounds.length - 1];
}
