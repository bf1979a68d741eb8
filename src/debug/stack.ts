/** A function in a stack, and its current line. Lines count from 1; 0 is unknown. */
export interface Frame {
  /** With its module, as in Go: `disk-buffer/ring.append`. */
  readonly name: string;
  readonly file: string;
  readonly startLine: number;
  readonly line: number;
}

/** The samples with one stack. */
export interface StackSamples {
  /** Innermost function first. */
  readonly stack: readonly Frame[];
  readonly samples: number;
  /** Nanoseconds or bytes. */
  readonly amount: number;
}

/** The samples of one thread. */
export interface ThreadProfile {
  readonly thread: string;
  readonly stacks: readonly StackSamples[];
}

/** Makes a frame for something that is not a JavaScript function. */
export function pseudoFrame(name: string): Frame {
  return { name, file: '', startLine: 0, line: 0 };
}
