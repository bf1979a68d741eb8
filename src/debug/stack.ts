/** A function in a stack, and the line it was at. Lines count from 1; 0 is unknown. */
export interface Frame {
  /** With its module before it, as Go writes functions: `transcode/protobuf-transcoder.span`. */
  readonly name: string;
  readonly file: string;
  readonly startLine: number;
  readonly line: number;
}

/** What was seen with one stack. */
export interface StackSamples {
  /** Innermost function first. */
  readonly stack: readonly Frame[];
  readonly samples: number;
  /** Nanoseconds or bytes. */
  readonly amount: number;
}

/** What one thread did. */
export interface ThreadProfile {
  readonly thread: string;
  readonly stacks: readonly StackSamples[];
}

/** A frame that stands for no function of JavaScript. */
export function pseudoFrame(name: string): Frame {
  return { name, file: '', startLine: 0, line: 0 };
}
