import type { CallFrame, SourceNames } from './source-names.ts';
import { pseudoFrame, type Frame, type StackSamples } from './stack.ts';

/** V8's format of a CPU profile, as far as it is read here. */
interface CpuProfile {
  /** The first is the root. */
  readonly nodes: readonly CpuProfileNode[];
  /** The id of the node of each sample, idle ones included. */
  readonly samples: readonly number[];
  /** In microseconds. V8 writes the lower 32 bits only: every 72 minutes the clock starts again at 0. */
  readonly startTime: number;
  readonly endTime: number;
}

interface CpuProfileNode {
  readonly id: number;
  readonly callFrame: CallFrame;
  readonly hitCount: number;
  readonly children?: readonly number[];
  /** Samples by line of the innermost function. */
  readonly positionTicks?: readonly { readonly line: number; readonly ticks: number }[];
}

const OUTSIDE = pseudoFrame('(outside JavaScript)');

/** The two texts of a call frame in V8's JSON, up to the numbers that follow each. */
const NAME_AND_URL = /"functionName":"(.*?)"(,"lineNumber":-?\d+,"columnNumber":-?\d+,"scriptId":\d+),"url":"(.*?)"\}/gs;

/**
 * Converts V8's CPU profile of a thread to stacks with CPU time.
 *
 * V8 samples by wall-clock time. Here a sample stands for CPU time: `cpuNanos`, the thread's CPU time as counted by the kernel, is
 * divided evenly among the samples in which the thread was not idle, each with at most the sampling interval. The remainder is CPU
 * time in which V8 takes the thread for idle: reading and writing sockets. It becomes a stack of its own.
 */
export function cpuStacks(json: string, cpuNanos: number, names: SourceNames): StackSamples[] {
  const profile = JSON.parse(escapeNames(json)) as CpuProfile;
  const seen = stacksOf(profile, names);
  const total = seen.reduce((sum, { samples }) => sum + samples, 0);
  const micros = (profile.endTime - profile.startTime) >>> 0;
  const intervalNanos = (micros * 1_000) / Math.max(1, profile.samples.length);
  const sampleNanos = Math.min(intervalNanos, cpuNanos / Math.max(1, total));
  const outsideNanos = cpuNanos - total * sampleNanos;
  return [
    ...seen.map(({ stack, samples }) => ({ stack, samples, amount: Math.round(samples * sampleNanos) })),
    { stack: [OUTSIDE], samples: Math.round(outsideNanos / intervalNanos), amount: Math.round(outsideNanos) },
  ];
}

/**
 * Escapes the names and URLs in V8's JSON, which V8 writes without escapes. The name of a regular expression is its source, which often
 * has backslashes and quotes: a single sample of one would make the whole profile unreadable.
 */
function escapeNames(json: string): string {
  return json.replaceAll(
    NAME_AND_URL,
    (_frame, name: string, numbers: string, url: string) =>
      `"functionName":${JSON.stringify(name)}${numbers},"url":${JSON.stringify(url)}}`,
  );
}

function stacksOf({ nodes }: CpuProfile, names: SourceNames): { stack: readonly Frame[]; samples: number }[] {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const stacks: { stack: readonly Frame[]; samples: number }[] = [];

  function walk({ callFrame, hitCount, positionTicks, children = [] }: CpuProfileNode, callers: readonly Frame[]): void {
    if (callFrame.functionName === '(idle)') return;
    for (const { line, ticks } of positionTicks ?? [{ line: undefined, ticks: hitCount }]) {
      if (ticks > 0) stacks.push({ stack: [names.frame(callFrame, line), ...callers], samples: ticks });
    }
    const stack = callFrame.functionName === '(root)' ? callers : [names.frame(callFrame), ...callers];
    for (const child of children) walk(byId.get(child)!, stack);
  }

  walk(nodes[0], []);
  return stacks;
}
