import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Progress } from './progress.ts';

export const BUILD_SECONDS = 15;

/** Builds dist/, as `npm run build` does: a step of a command. @throws with what the compiler says */
export async function build(progress: Progress): Promise<void> {
  progress.step('building the collector', BUILD_SECONDS);
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const { code, stdout } = await promisify(execFile)(process.execPath, ['node_modules/@nestjs/cli/bin/nest.js', 'build'], { cwd: root }).then(
    () => ({ code: 0, stdout: '' }),
    (error: { code: number; stdout: string; stderr: string }) => ({ code: error.code, stdout: error.stdout + error.stderr }),
  );
  if (code !== 0) throw new Error(`The build failed:\n${stdout}`);
}
