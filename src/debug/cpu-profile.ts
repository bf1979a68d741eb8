import type { CallFrame, SourceNames } from './source-names.ts';
import { pseudoFrame, type Frame, type StackSamples } from './stack.ts';

/** V8's own form, of the parts that are read here. */
interface CpuProfile {
  /** The first is the root. */
  readonly nodes: readonly CpuProfileNode[];
  /** The node of each sample, idle ones too. */
  readonly samples: readonly number[];
  /** In microseconds. */
  readonly startTime: number;
  readonly endTime: number;
}

interface CpuProfileNode {
  readonly id: number;
  readonly callFrame: CallFrame;
  readonly hitCount: number;
  readonly children?: readonly number[];
  /** The lines the innermost function was in. */
  readonly positionTicks?: readonly { readonly line: number; readonly ticks: number }[];
}

const OUTSIDE = pseudoFrame('(outside JavaScript)');

/**
 * What a thread did, from V8's profile of it.
 *
 * V8 samples by the clock on the wall. Here a sample stands for processor time: `cpuNanos`, which the kernel has counted
 * for the thread, is spread over the samples in which the thread was not idle. What is more than the time between two
 * samples was spent where V8 sees an idle thread: in reading and writing sockets.
 */
export function cpuStacks(json: string, cpuNanos: number, names: SourceNames): StackSamples[] {
  const profile = JSON.parse(json) as CpuProfile;
  const seen = stacksOf(profile, names);
  const total = seen.reduce((sum, { samples }) => sum + samples, 0);
  const intervalNanos = ((profile.endTime - profile.startTime) * 1_000) / Math.max(1, profile.samples.length);
  const sampleNanos = Math.min(intervalNanos, cpuNanos / Math.max(1, total));
  const outsideNanos = cpuNanos - total * sampleNanos;
  return [
    ...seen.map(({ stack, samples }) => ({ stack, samples, amount: Math.round(samples * sampleNanos) })),
    { stack: [OUTSIDE], samples: Math.round(outsideNanos / intervalNanos), amount: Math.round(outsideNanos) },
  ];
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
