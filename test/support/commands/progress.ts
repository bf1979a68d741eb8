/*
 * What a long command is doing, on standard error: standard output is for its result.
 *
 *   Measures 9 scenarios with 4 subjects. About 15 min.
 *   [3/36, about 14 min left] memory, 500 requests/s of 11 spans
 *
 * A terminal shows one line, which is redrawn. Anywhere else each step is a line, and a step that takes long repeats it.
 */

const REDRAW_MS = 1_000;
const REPEAT_MS = 10_000;

export interface Progress extends Disposable {
  /** Ends the step before, and begins one that should take so many seconds. */
  step(name: string, seconds: number): void;
  /** A step that will not be done. */
  skip(seconds: number): void;
  /**
   * Shows the line again when it is time to; by itself it does so only while the event loop is free. `detail` is shown from
   * now on; `done` is how much of the step is, from 0 to 1, where it is known.
   */
  tick(detail?: string, done?: number): void;
  /** A line of its own. */
  line(text: string): void;
  /** Removes the line from a terminal, before something else is printed. */
  clear(): void;
}

/** Prints what will be done and how long it should take, in seconds. The estimates are corrected by what the steps have taken. */
export function startProgress(
  what: string,
  { steps, seconds, stream = process.stderr }: { steps: number; seconds: number; stream?: NodeJS.WriteStream },
): Progress {
  let step = { name: '', seconds: 0, number: 0, startedMs: performance.now() };
  let detail = '';
  let done = 0;
  /** How many times as long as expected each step took that is over. Three count as if they had been, before there are any. */
  const paces = [1, 1, 1];
  /** Expected seconds of those that are over or left out. */
  let gone = 0;
  let shownMs = 0;

  stream.write(`${what} About ${duration(seconds)}.\n`);
  const timer = setInterval(() => tick(), REDRAW_MS).unref();

  function secondsLeft(): number {
    // The median: one step that waits for something says nothing of the others.
    const pace = paces.toSorted((one, other) => one - other)[paces.length >> 1];
    const ofStep = done > 0 ? (elapsed() * (1 - done)) / done : Math.max(0, step.seconds * pace - elapsed());
    return Math.max(0, (seconds - gone - step.seconds) * pace) + ofStep;
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
      gone += step.seconds;
      if (step.number > 0) paces.push(elapsed() / step.seconds);
      step = { name, seconds: expected, number: step.number + 1, startedMs: performance.now() };
      detail = '';
      done = 0;
      show();
    },
    skip(expected) {
      gone += expected;
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

/** `8 s`, `3 min`, `1 h 20 min`. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
