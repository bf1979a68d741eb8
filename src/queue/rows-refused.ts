import { refusedByClickHouse, Refusal } from '../otlp/refusal.ts';
import type { RowRange } from '../transcode/native/native-rows.ts';

/** ClickHouse refuses some rows of a block permanently; the others are stored. The answer to a request depends on its own rows. */
export class RowsRefused extends Refusal {
  readonly ranges: readonly RowRange[];

  constructor(ranges: readonly RowRange[]) {
    const { status, message } = refusedByClickHouse();
    super(status, message);
    this.ranges = ranges;
  }

  /** The number of rows in [`from`, `to`) that are not stored. */
  countIn(from: number, to: number): number {
    return this.ranges.reduce((sum, range) => sum + Math.max(0, Math.min(to, range[1]) - Math.max(from, range[0])), 0);
  }
}
