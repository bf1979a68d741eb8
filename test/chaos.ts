import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

// `npm run chaos -- --seconds N --seed S`: the chaos test (test/e2e/chaos.test.ts), for as long as you like.
const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string' } } });
const env = { ...process.env, CHAOS_SECONDS: values.seconds, ...(values.seed !== undefined && { CHAOS_SEED: values.seed }) };
const { status } = spawnSync('vitest', ['run', 'test/e2e/chaos.test.ts'], { env, stdio: 'inherit' });
process.exitCode = status ?? 1;
