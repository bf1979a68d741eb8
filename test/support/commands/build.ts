import { execFile } from 'node:child_process';
import { findPackageJSON } from 'node:module';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import type { Progress } from './progress.ts';

/** The expected time of a build. */
export const BUILD_SECONDS = 15;

/** Builds dist/, as `npm run build` does, as a step of `progress`. @throws Error with the compiler's output */
export async function build(progress: Progress): Promise<void> {
  progress.step('building the collector', BUILD_SECONDS);
  const root = dirname(findPackageJSON(import.meta.url)!);
  const nest = promisify(execFile)(process.execPath, ['node_modules/@nestjs/cli/bin/nest.js', 'build'], { cwd: root });
  await nest.catch(({ stdout, stderr }: { stdout: string; stderr: string }) => {
    throw new Error(`The build failed:\n${stdout}${stderr}`);
  });
}
