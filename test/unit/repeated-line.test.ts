import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { RepeatedLine } from '../../src/telemetry/repeated-line.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('a line that comes again and again is written at once, then once each ten seconds with its number, then at once again', () => {
  const written: object[] = [];
  const logger = new Logger();
  vi.spyOn(logger, 'warn').mockImplementation((line: object) => void written.push(line));
  const line = new RepeatedLine(logger, 'warn', 'It happened');

  line.write({ cause: 1 });
  line.write({ cause: 2 });
  line.write({ cause: 3 });
  expect(written).toEqual([{ cause: 1, msg: 'It happened' }]);

  vi.advanceTimersByTime(10_000);
  expect(written.slice(1)).toEqual([{ cause: 3, times: 2, msg: 'It happened' }]);
  line.write({ cause: 4 });
  vi.advanceTimersByTime(10_000);
  expect(written.slice(2)).toEqual([{ cause: 4, msg: 'It happened' }]);

  vi.advanceTimersByTime(10_000);
  expect(vi.getTimerCount()).toBe(0);
  line.write({ cause: 5 });
  expect(written.slice(3)).toEqual([{ cause: 5, msg: 'It happened' }]);
});
