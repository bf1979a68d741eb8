/** Whether a fill counts as above a threshold with hysteresis. Fills are from 0 to 1. @param wasAbove whether the last one did */
export function isAbove(fill: number, high: number, low: number, wasAbove: boolean): boolean {
  return fill >= (wasAbove ? low : high);
}

/** A threshold with hysteresis: above from the high mark on, until the fill is below the low mark. Fills are from 0 to 1. */
export class Watermark {
  private readonly high: number;
  private readonly low: number;
  private above = false;

  constructor(high: number, low: number) {
    this.high = high;
    this.low = low;
  }

  /** Whether `fill` counts as above, given the calls before. */
  isAbove(fill: number): boolean {
    this.above = isAbove(fill, this.high, this.low, this.above);
    return this.above;
  }

  /** Counts as above from now on, whatever the fill was: something did not fit. */
  raise(): void {
    this.above = true;
  }
}
