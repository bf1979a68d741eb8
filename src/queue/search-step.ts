import type { RowRange } from '../transcode/native/native-rows.ts';

/** Rows of a block that ClickHouse refused for one reason. */
export interface RefusedRows {
  readonly ranges: readonly RowRange[];
  readonly code: string;
  /** ClickHouse's message for one of them. */
  readonly reason: string;
  /** `Endpoint.deduplicationDomain` */
  readonly server: string;
  /** Whether each row was refused on its own; otherwise some of them might be accepted. */
  readonly decided: boolean;
}

/** A step of the search for refused rows. The list of steps, in order, is enough to resume the search. */
export type SearchStep =
  /** Invalid UTF-8 is replaced in these columns. */
  | { readonly kind: 'repaired'; readonly columns: readonly string[] }
  /** A refused set is split in two, which get the next two numbers. */
  | {
      readonly kind: 'split';
      readonly set: number;
      readonly named: boolean;
      readonly into: readonly [readonly RowRange[], readonly RowRange[]];
    }
  /** The search has ended; all other rows are stored. */
  | { readonly kind: 'ended'; readonly refused: readonly RefusedRows[] };
