import type { AttributesColumnName } from './transcode-rules.ts';

/** The limits of a table. */
export interface TableLimits {
  /** Attribute columns that refuse text which is not valid UTF-8, and then the whole insert. */
  readonly textColumns: readonly AttributesColumnName[];
  /** The age from which the table's TTL drops rows immediately, in ms; Infinity without a TTL. */
  readonly maxRowAgeMs: number;
}

/** The limits of a table without any, and of one that has not been checked yet. */
export const NO_LIMITS: TableLimits = { textColumns: [], maxRowAgeMs: Number.POSITIVE_INFINITY };

/** The limits of the tables of all servers, as far as known. */
export abstract class CurrentTableLimits {
  /** Replaced by another object when they change. */
  abstract readonly limits: TableLimits;
}
