import v8 from 'node:v8';
import { expect, test } from 'vitest';
import { cpuStacks } from '../../src/debug/cpu-profile.ts';
import { SourceNames } from '../../src/debug/source-names.ts';

const WRAP_MICROS = 2 ** 32;

function node(id: number, functionName: string, hitCount: number, children: number[] = []): object {
  return { id, callFrame: { functionName, url: '', lineNumber: -1, columnNumber: -1 }, hitCount, children };
}

/** A profile in V8's format with 4 samples, 3 of them in one function. */
function profile(startTime: number, endTime: number): string {
  const nodes = [node(1, '(root)', 0, [2, 3]), node(2, '(idle)', 1), node(3, 'parse', 3)];
  return JSON.stringify({ nodes, samples: [2, 3, 3, 3], startTime, endTime });
}

test.each([
  ['somewhere', 1_000_000, 5_000_000],
  // V8 writes the lower 32 bits of its clock.
  ['where its clock starts again at 0', WRAP_MICROS - 1_500_000, 2_500_000],
])('a profile %s: samples stand for at most their interval, and the rest is outside JavaScript', (_where, startTime, endTime) => {
  expect(cpuStacks(profile(startTime, endTime), 3.5e9, new SourceNames())).toMatchObject([
    { stack: [{ name: 'parse' }], samples: 3, amount: 3e9 },
    { stack: [{ name: '(outside JavaScript)' }], samples: 1, amount: 0.5e9 },
  ]);
});

test('names may have quotes, backslashes and control characters, as a regular expression has', () => {
  const text = `${'x'.repeat(100_000)}"`;
  const quoted = {
    'a"b\\d': (): void => {
      // Longer than a busy machine keeps the thread that takes the samples waiting.
      for (const until = performance.now() + 200; performance.now() < until;);
    },
  };
  const expression = new RegExp('^[\\w\\b\té]+"$');
  const names = new Set<string>();
  // A regular expression has its name once it is compiled, after some runs.
  for (const end = performance.now() + 20_000; names.size < 2 && performance.now() < end;) {
    const handle = v8.startCpuProfile({ sampleInterval: 1 });
    quoted['a"b\\d']();
    for (const until = performance.now() + 200; performance.now() < until;) expression.test(text);
    for (const { stack } of cpuStacks(handle.stop(), 1e9, new SourceNames())) {
      if (stack[0].name.includes('"')) names.add(stack[0].name);
    }
  }
  expect([...names].sort()).toEqual(['RegExp: ^[\\w\\b\té]+"$', 'test/unit/cpu-profile.test.a"b\\d']);
});
