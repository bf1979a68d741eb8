import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { build, BUILD_SECONDS } from './support/commands/build.ts';
import { commandLine, positive } from './support/commands/command-line.ts';
import { startProgress } from './support/commands/progress.ts';

const usage = `Kills collector and ClickHouse at random under load, and compares what is stored with what was acknowledged
(test/e2e/chaos.test.ts). The exit code is 0 if nothing was lost or stored twice.

npm run chaos -- [options]

  --seconds N   of load (default 60)
  --seed N      what happens, and when (default: any)
`;
const values = commandLine(usage, {
  seconds: { type: 'string', default: '60' },
  seed: { type: 'string', default: String(Date.now() % 1_000_000) },
});
const seconds = positive('--seconds', values.seconds) + 20;
using progress = startProgress(`Builds the collector, then kills it and ClickHouse under load, seed ${values.seed}.`, {
  steps: 2,
  seconds: BUILD_SECONDS + seconds,
});
await build(progress);
progress.step('chaos', seconds);
const env = { ...process.env, CHAOS_SECONDS: values.seconds, CHAOS_SEED: values.seed };
const vitest = spawn('vitest', ['run', 'test/e2e/chaos.test.ts'], { env, stdio: ['inherit', 'pipe', 'pipe'] });
const closed = once(vitest, 'close') as Promise<[number | null]>;
const [output, errors, [status]] = await Promise.all([text(vitest.stdout), text(vitest.stderr), closed]);
progress.clear();
process.stdout.write(output);
process.stderr.write(errors);
process.exitCode = status ?? 1;
