/*
 * The progress of a long command, on standard error: standard output is for its result.
 *
 *   Measures 9 scenarios with 4 subjects. About 15 min.
 *   [3/36, about 14 min left] memory, 500 requests/s of 11 spans
 *
 * A terminal shows one line, which is redrawn each second. Elsewhere each step is a line, which is repeated every ten seconds.
 */

const REDRAW_MS = 1_000;
const REPEAT_MS = 10_000;

export interface Progress extends Disposable {
  /** Begins the next step, which is expected to take `seconds`. */
  step(name: string, seconds: number): void;
  /** Leaves out a step that was expected to take `seconds`. */
  skip(seconds: number): void;
  /**
   * Shows the line again if that is due. A timer does the same, but not while the event loop is blocked.
   * @param detail is shown until the next step
   * @param done the finished part of the step, from 0 to 1, if it is known
   */
  tick(detail?: string, done?: number): void;
  /** Prints a line that stays. */
  line(text: string): void;
  /** Removes the line from a terminal, before something else is printed. */
  clear(): void;
}

/**
 * Prints what will be done and the expected time.
 * @param seconds the expected time of all steps; the time left is corrected by how long the finished steps have taken
 */
export function startProgress(
  what: string,
  { steps, seconds, stream = process.stderr }: { steps: number; seconds: number; stream?: NodeJS.WriteStream },
): Progress {
  let step = { name: '', seconds: 0, number: 0, startedMs: performance.now() };
  let detail = '';
  let done = 0;
  /** How many times as long as expected each finished step took. Three values of 1 count from the beginning. */
  const paces = [1, 1, 1];
  /** Expected seconds of the steps that are finished or left out. */
  let pastSeconds = 0;
  let shownMs = 0;

  stream.write(`${what} About ${duration(seconds)}.\n`);
  const timer = setInterval(() => tick(), REDRAW_MS).unref();

  function secondsLeft(): number {
    // The median: a single step with a long wait does not count.
    const pace = paces.toSorted((one, other) => one - other)[paces.length >> 1];
    const ofStep = done > 0 ? (elapsed() * (1 - done)) / done : Math.max(0, step.seconds * pace - elapsed());
    return Math.max(0, (seconds - pastSeconds - step.seconds) * pace) + ofStep;
  }

  function elapsed(): number {
    return (performance.now() - step.startedMs) / 1000;
  }

  function show(): void {
    shownMs = performance.now();
    const took = elapsed() < 2 ? '' : ` · ${duration(elapsed())}`;
    const text = `[${step.number}/${steps}, about ${duration(secondsLeft())} left] ${step.name}${took}${detail && ` · ${detail}`}`;
    stream.write(stream.isTTY ? `\r\x1b[K${text.slice(0, stream.columns - 1)}` : `${text}\n`);
  }

  function clear(): void {
    if (stream.isTTY) stream.write('\r\x1b[K');
  }

  function tick(newDetail = detail, newDone = done): void {
    detail = newDetail;
    done = newDone;
    if (step.number > 0 && performance.now() - shownMs >= (stream.isTTY ? REDRAW_MS : REPEAT_MS)) show();
  }

  return {
    step(name, expected) {
      pastSeconds += step.seconds;
      if (step.number > 0) paces.push(elapsed() / step.seconds);
      step = { name, seconds: expected, number: step.number + 1, startedMs: performance.now() };
      detail = '';
      done = 0;
      show();
    },
    skip(expected) {
      pastSeconds += expected;
      steps--;
    },
    tick,
    line(text) {
      clear();
      stream.write(`${text}\n`);
      shownMs = performance.now();
    },
    clear,
    [Symbol.dispose]() {
      clearInterval(timer);
      clear();
    },
  };
}

/** A time for people: `8 s`, `3 min`, `1 h 20 min`. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
