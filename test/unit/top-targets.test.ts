import { expect, test } from 'vitest';
import { TopTargets } from '../../src/ingest/top-targets.ts';

test('the targets that send the most are kept, however many others there are', () => {
  const top = new TopTargets(2);
  for (let round = 0; round < 10_000; round++) {
    top.count('large', 10);
    top.count('medium', 5);
    top.count(`small ${round}`, 1);
  }
  expect(top.list()).toEqual([
    ['large', 100_000],
    ['medium', 50_000],
  ]);
});

test('with none to show, none is kept', () => {
  const top = new TopTargets(0);
  top.count('target', 1);
  expect(top.list()).toEqual([]);
});
