import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { build, BUILD_SECONDS } from './support/commands/build.ts';
import { commandLine, misused, positive } from './support/commands/command-line.ts';
import { startProgress } from './support/commands/progress.ts';

const usage = `Kills the collector and ClickHouse at random under load, and compares stored with acknowledged spans
(test/e2e/chaos.test.ts). The exit code is 0 if nothing was lost or stored twice.

npm run chaos -- [options]

  --mode NAME   'disk buffer' or 'memory' (default: both)
  --seconds N   seconds of load in each mode (default 60)
  --seed N      seed of the random events (default: random)
`;
const values = commandLine(usage, {
  mode: { type: 'string' },
  seconds: { type: 'string', default: '60' },
  seed: { type: 'string', default: String(Date.now() % 1_000_000) },
});
const MODES = ['disk buffer', 'memory'];
const modes = values.mode === undefined ? MODES : [values.mode];
if (!modes.every((mode) => MODES.includes(mode))) misused(`--mode is ${values.mode}. Allowed: ${MODES.join(', ')}.`);
const seconds = (positive('--seconds', values.seconds) + 20) * modes.length;
using progress = startProgress(`Builds the collector, then kills it and ClickHouse under load, seed ${values.seed}.`, {
  steps: 2,
  seconds: BUILD_SECONDS + seconds,
});
await build(progress);
progress.step('chaos', seconds);
const mode = values.mode === undefined ? {} : { CHAOS_MODE: values.mode };
const env = { ...process.env, ...mode, CHAOS_SECONDS: values.seconds, CHAOS_SEED: values.seed };
const vitest = spawn('vitest', ['run', 'test/e2e/chaos.test.ts'], { env, stdio: ['inherit', 'pipe', 'pipe'] });
const closed = once(vitest, 'close') as Promise<[number | null]>;
const [output, errors, [status]] = await Promise.all([text(vitest.stdout), text(vitest.stderr), closed]);
progress.clear();
process.stdout.write(output);
process.stderr.write(errors);
process.exitCode = status ?? 1;
