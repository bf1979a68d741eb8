import { refusedByClickHouse, Refusal } from '../otlp/refusal.ts';
import type { RowRange } from '../transcode/native/native-rows.ts';

/** Of a block, ClickHouse refuses some rows for good; the others are stored. What a request of the block is answered depends on its rows. */
export class RowsRefused extends Refusal {
  private readonly ranges: readonly RowRange[];

  constructor(ranges: readonly RowRange[]) {
    const { status, message } = refusedByClickHouse();
    super(status, message);
    this.ranges = ranges;
  }

  /** How many of the rows from `from` on, up to and without `to`, are not stored. */
  countIn(from: number, to: number): number {
    return this.ranges.reduce((sum, range) => sum + Math.max(0, Math.min(to, range[1]) - Math.max(from, range[0])), 0);
  }
}
