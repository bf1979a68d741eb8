import type { CallFrame, SourceNames } from './source-names.ts';
import type { Frame, StackSamples } from './stack.ts';

/** V8's format of a sampling heap profile, as far as it is read here. */
interface HeapProfile {
  readonly head: HeapProfileNode;
  readonly samples: readonly { readonly nodeId: number }[];
}

interface HeapProfileNode {
  readonly id: number;
  readonly callFrame: CallFrame;
  /** Bytes, as V8 estimates them from the samples. */
  readonly selfSize: number;
  readonly children: readonly HeapProfileNode[];
}

/** Converts V8's sampling heap profile of a thread to stacks with bytes. */
export function heapStacks(json: string, names: SourceNames): StackSamples[] {
  const { head, samples } = JSON.parse(json) as HeapProfile;
  const counts = new Map<number, number>();
  for (const { nodeId } of samples) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  const stacks: StackSamples[] = [];

  function walk({ id, callFrame, selfSize, children }: HeapProfileNode, callers: readonly Frame[]): void {
    const stack = callFrame.functionName === '(root)' ? callers : [names.frame(callFrame), ...callers];
    if (selfSize > 0) stacks.push({ stack, samples: counts.get(id) ?? 0, amount: selfSize });
    for (const child of children) walk(child, stack);
  }

  walk(head, []);
  return stacks;
}
