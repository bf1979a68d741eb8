/** Where threads keep what they count. Not provided where there is one thread. */
export abstract class CountCells {
  /** Of this thread. */
  abstract readonly own: Float64Array;
  /** Of each thread that counts. */
  abstract readonly all: readonly Float64Array[];
}
