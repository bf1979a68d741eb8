/** Whether something is too full: from a high mark on, until it is below a low mark again. Fills are from 0 to 1. */
export class Watermark {
  private readonly high: number;
  private readonly low: number;
  private above = false;

  constructor(high: number, low: number) {
    this.high = high;
    this.low = low;
  }

  isAbove(fill: number): boolean {
    if (this.above ? fill < this.low : fill >= this.high) this.above = !this.above;
    return this.above;
  }

  /** Counts as above now, whatever the fill: something did not fit. */
  raise(): void {
    this.above = true;
  }
}
