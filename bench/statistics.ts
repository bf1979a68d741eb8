/** The value below which `fraction` of the values are: 0.5 is the median. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((one, other) => one - other);
  const position = (sorted.length - 1) * fraction;
  const below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below);
}

/** The middle value; between two of them, their mean. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The median, and the range of all values. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** @param values at least one */
export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** The slope of y over x, by least squares. 0 with fewer than two different x. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const meanX = mean(points.map(([x]) => x));
  const meanY = mean(points.map(([, y]) => y));
  let product = 0;
  let square = 0;
  for (const [x, y] of points) {
    product += (x - meanX) * (y - meanY);
    square += (x - meanX) ** 2;
  }
  return square === 0 ? 0 : product / square;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
