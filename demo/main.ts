import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { parseCommandLine, UsageError } from '../src/cli/terminal.ts';
import type { LocalMode } from '../src/start-local.ts';
import { GATEWAYS, sendLoad } from './load.ts';
import { showProgress } from './progress.ts';
import { byOperation, countStored, type Stored, tallyOf, whatToTry } from './summary.ts';

const usage = `Simulates a shop's GraphQL gateways for a minute. They send their traces to the collector in local mode.

npm run demo -- [options]

  --seconds N   duration (default 60)
  --seed N      seed of the random GraphQL requests (default 1)
  --exit        exit afterwards, instead of running until Ctrl-C
`;

interface Options {
  readonly seconds: number;
  readonly seed: number;
  readonly exit: boolean;
}

try {
  const options = parse(process.argv.slice(2));
  if (options === undefined) process.stdout.write(usage);
  else process.exitCode = await demo(options);
} catch (error) {
  console.error(error instanceof UsageError ? error.message : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}

/** @returns the exit code of local mode, which has said itself what is wrong */
async function demo(options: Options): Promise<number> {
  // The log of local mode would run through the bar. It says what is wrong, and no more.
  const local = fork(fileURLToPath(new URL('../dist/local.js', import.meta.url)), {
    env: { LOG_LEVEL: 'error', ...process.env },
    execArgv: [],
  });
  const exited = once(local, 'exit').then(([code]: (number | null)[]) => code ?? 1);
  const stopping = new AbortController();
  // A terminal's Ctrl-C reaches local mode by itself; twice at once counts as once.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop(local, stopping));
  const where = await Promise.race([once(local, 'message').then(([message]): LocalMode => message), exited]);
  if (typeof where === 'number') return where;
  try {
    await play(where, options, stopping.signal);
    if (options.exit) stop(local, stopping);
  } catch (error) {
    // Of one that was told to stop, no answer is to be expected.
    const unexpected = !stopping.signal.aborted;
    stop(local, stopping);
    await exited;
    if (unexpected) throw error;
  }
  return exited;
}

async function play(
  { collectorUrl, adminUrl, table, ...clickhouse }: LocalMode,
  { seconds, seed, exit }: Options,
  signal: AbortSignal,
): Promise<void> {
  const run = Math.floor(Date.now() / 1_000).toString(16);
  const stored: Stored = { ...clickhouse, table, run };
  process.stdout.write(`${GATEWAYS.length} gateways send traces to ${collectorUrl} for ${seconds} s. See them arrive: ${adminUrl}\n\n`);
  const load = await sendLoad(`${collectorUrl}/v1/traces`, {
    seconds,
    seed,
    run,
    signal,
    onTick: (elapsed, { spans }) => showProgress(process.stdout, elapsed, seconds, `${spans.toLocaleString('en')} spans`),
  });
  if (signal.aborted) return;
  process.stdout.write(tallyOf(load, await countStored(stored, load.answers.acknowledgedSpans)));
  process.stdout.write(`\n${await byOperation(stored)}`);
  process.stdout.write(exit ? '\nThe data stays; `npm run local` uses it again.\n' : whatToTry(adminUrl, stored));
}

function stop(local: ChildProcess, stopping: AbortController): void {
  stopping.abort();
  local.kill('SIGTERM');
}

/** @returns nothing when help is asked for. @throws UsageError */
function parse(args: readonly string[]): Options | undefined {
  const { values, positionals } = parseCommandLine(args, {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    exit: { type: 'boolean', default: false },
  });
  if (positionals.length > 0) throw new UsageError(`Unexpected argument: ${positionals[0]}; see --help.`);
  if (values.help) return undefined;
  return {
    seconds: wholeNumber('--seconds', values.seconds, 1, 86_400),
    seed: wholeNumber('--seed', values.seed, 0, 2 ** 32 - 1),
    exit: values.exit,
  };
}

function wholeNumber(flag: string, given: string, min: number, max: number): number {
  if (!/^\d+$/.test(given) || Number(given) < min || Number(given) > max)
    throw new UsageError(`${flag} is ${given}. Allowed: a whole number from ${min} to ${max}.`);
  return Number(given);
}
