/**
 * A histogram as Prometheus defines it: the number of values per bucket, and their sum. `observe` walks along a dozen bounds, which
 * is cheap enough for each request; prom-client's histogram builds a key of the labels each time.
 */
export class Histogram {
  /** The upper bound of each bucket, ascending and inclusive. A last bucket holds all larger values. */
  readonly bounds: readonly number[];
  /** The number of values in each bucket, not cumulative: one more than `bounds`. */
  readonly counts: Float64Array;
  private readonly sums: Float64Array;

  /** @param cells the memory of its numbers, of length `bounds.length + 2` */
  constructor(bounds: readonly number[], cells: Float64Array = new Float64Array(bounds.length + 2)) {
    this.bounds = bounds;
    this.counts = cells.subarray(0, bounds.length + 1);
    this.sums = cells.subarray(bounds.length + 1);
  }

  get sum(): number {
    return this.sums[0];
  }

  /** Counts a value. */
  observe(value: number): void {
    const { bounds } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]) bucket++;
    this.counts[bucket]++;
    this.sums[0] += value;
  }
}

/** Bounds for durations, in seconds. */
export const SECONDS: readonly number[] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/**
 * Estimates a quantile as Prometheus' histogram_quantile does: values are assumed to be evenly distributed within a bucket; in the
 * last bucket, the result is the last bound.
 * @param part the quantile, from 0 to 1
 * @param counts the number of values in each bucket, `bounds.length + 1` of them
 * @returns NaN if there are no values
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
