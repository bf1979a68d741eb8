/** A ring buffer with the last points of a figure. A new point replaces the oldest when it is full. */
export class Series {
  private readonly points: Float64Array;
  private next = 0;
  private filled = 0;

  constructor(capacity: number) {
    this.points = new Float64Array(capacity);
  }

  push(value: number): void {
    this.points[this.next] = value;
    this.next = (this.next + 1) % this.points.length;
    this.filled = Math.min(this.filled + 1, this.points.length);
  }

  /** The points, oldest first. */
  values(): number[] {
    const { points, next, filled } = this;
    return filled < points.length ? [...points.subarray(0, filled)] : [...points.subarray(next), ...points.subarray(0, next)];
  }
}
