import type { RowRange } from '../transcode/native/native-rows.ts';

/** Rows that are not stored, for one reason. */
export interface RefusedRows {
  readonly ranges: readonly RowRange[];
  readonly code: string;
  /** ClickHouse's words for one of them. */
  readonly reason: string;
  /** `Endpoint.deduplicationDomain` */
  readonly server: string;
  /** Whether each of them was refused alone; else there may be some among them that would be stored. */
  readonly decided: boolean;
}

/** What has been found out, in the order that it was: enough to go on from there. */
export type SearchStep =
  /** Columns in which text is repaired. */
  | { readonly kind: 'repaired'; readonly columns: readonly string[] }
  /** A set that was refused is split into the next two numbers. */
  | {
      readonly kind: 'split';
      readonly set: number;
      readonly named: boolean;
      readonly into: readonly [readonly RowRange[], readonly RowRange[]];
    }
  /** The search has ended; all other rows are stored. */
  | { readonly kind: 'ended'; readonly refused: readonly RefusedRows[] };
