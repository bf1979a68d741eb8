/** The memory of the counts of all threads. Not provided if there is only one thread. */
export abstract class CountCells {
  /** The counts of this thread. */
  abstract readonly own: Float64Array;
  /** The counts of each thread. */
  abstract readonly all: readonly Float64Array[];
}
