import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { duration, startProgress } from '../support/commands/progress.ts';

/* What a long command says while it runs. */

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

/** Back to the start of the line, and clear it. */
const REDRAWN = '\r\x1b[K';

function stream(isTTY: boolean): { stream: NodeJS.WriteStream; written: () => string } {
  let text = '';
  const write = (more: string) => (text += more);
  return { stream: { isTTY, columns: 60, write } as unknown as NodeJS.WriteStream, written: () => text };
}

test('where there is no terminal, it says what will be done and how long it takes, and each step is a line', () => {
  const { stream: to, written } = stream(false);
  using progress = startProgress('Measures two things.', { steps: 2, seconds: 150, stream: to });
  progress.step('one', 50);
  vi.advanceTimersByTime(5_000);
  progress.step('two', 100);
  expect(written()).toBe('Measures two things. About 3 min.\n[1/2, about 3 min left] one\n[2/2, about 2 min left] two\n');
});

test('a long step is told of every ten seconds', () => {
  const { stream: to, written } = stream(false);
  using progress = startProgress('Waits.', { steps: 1, seconds: 25, stream: to });
  progress.step('waiting', 25);
  vi.advanceTimersByTime(9_000);
  progress.tick('3 of 5');
  vi.advanceTimersByTime(24_000);
  expect(written().split('\n').slice(2)).toEqual([
    '[1/1, about 15 s left] waiting · 10 s · 3 of 5',
    '[1/1, about 5 s left] waiting · 20 s · 3 of 5',
    '[1/1, about 0 s left] waiting · 30 s · 3 of 5',
    '',
  ]);
});

test('work that keeps the event loop busy is told of when it ticks', () => {
  const { stream: to, written } = stream(false);
  using progress = startProgress('Works.', { steps: 1, seconds: 20, stream: to });
  progress.step('working', 20);
  vi.spyOn(performance, 'now').mockReturnValue(performance.now() + 11_000);
  progress.tick();
  expect(written()).toContain('[1/1, about 9 s left] working · 11 s\n');
});

test('a step that knows how much of it is done says how long the rest takes', () => {
  const { stream: to, written } = stream(false);
  using progress = startProgress('Works.', { steps: 1, seconds: 2, stream: to });
  progress.step('working', 2);
  vi.advanceTimersByTime(9_500);
  progress.tick('1 of 4', 0.25);
  vi.advanceTimersByTime(500);
  expect(written()).toContain('[1/1, about 30 s left] working · 10 s · 1 of 4\n');
});

test('one step that takes long does not make the others longer', () => {
  const { stream: to, written } = stream(false);
  using progress = startProgress('Measures.', { steps: 4, seconds: 40, stream: to });
  for (const [name, took] of [
    ['one', 10_000],
    ['two', 10_000],
    ['three', 100_000],
  ] as const) {
    progress.step(name, 10);
    vi.advanceTimersByTime(took);
  }
  progress.step('four', 10);
  expect(written()).toContain('[4/4, about 10 s left] four\n');
});

test('steps that all take twice as long as expected make the rest longer', () => {
  const { stream: to, written } = stream(false);
  using progress = startProgress('Measures.', { steps: 6, seconds: 60, stream: to });
  for (const name of ['one', 'two', 'three', 'four', 'five']) {
    progress.step(name, 10);
    vi.advanceTimersByTime(20_000);
  }
  progress.step('six', 10);
  expect(written()).toContain('[6/6, about 20 s left] six\n');
});

test('a step that is left out takes no time', () => {
  const { stream: to, written } = stream(false);
  using progress = startProgress('Measures.', { steps: 3, seconds: 90, stream: to });
  progress.step('one', 30);
  progress.skip(30);
  vi.advanceTimersByTime(30_000);
  progress.step('three', 30);
  expect(written()).toContain('[2/2, about 30 s left] three\n');
});

test('on a terminal it is one line, no longer than that, which goes at the end', () => {
  const { stream: to, written } = stream(true);
  {
    using progress = startProgress('Measures.', { steps: 1, seconds: 60, stream: to });
    progress.step('a name that is longer than what a line of the terminal takes', 60);
    vi.advanceTimersByTime(1_000);
    progress.line('something was refused');
  }
  const [, ...lines] = written().replaceAll(REDRAWN, '<redrawn>').split('\n');
  expect(lines).toEqual([
    expect.stringMatching(/^(<redrawn>\[1\/1, about \d+ s left\] a name that is longer than what a li){2}<redrawn>something was refused$/),
    '<redrawn>',
  ]);
});

test('durations are as exact as a reader wants them', () => {
  expect([8.4, 89, 150, 3600, 4800].map(duration)).toEqual(['8 s', '89 s', '3 min', '1 h 0 min', '1 h 20 min']);
});
