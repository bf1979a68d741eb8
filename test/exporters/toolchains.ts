import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** What is installed and built stays here, for the next time. */
const CACHE = process.env.EXPORTERS_CACHE ?? fileURLToPath(new URL('../../node_modules/.cache/exporters', import.meta.url));

/** Its senders are skipped. */
export class MissingToolchain extends Error {}

export interface GoPrograms {
  readonly telemetrygen: string;
  readonly otelcol: string;
}

/** Installs the SDK for Python into an environment of its own. Resolves to its interpreter. @throws MissingToolchain */
export async function installPython(): Promise<string> {
  const environment = join(CACHE, 'python');
  // ensurepip is what Debian leaves out of its venv.
  await version('python3', ['-c', 'import venv, ensurepip']);
  await run('python3', ['-m', 'venv', environment]);
  const interpreter = join(environment, 'bin', 'python');
  await run(interpreter, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', pathOf('python/requirements.txt')]);
  return interpreter;
}

/** Builds the sender of rust/. Resolves to it. @throws MissingToolchain */
export async function buildRust(): Promise<string> {
  await version('cargo', ['--version']);
  const folder = join(CACHE, 'rust');
  await run('cargo', ['build', '--quiet', '--locked', '--target-dir', folder], { cwd: pathOf('rust') });
  return join(folder, 'debug', 'sender');
}

/** Builds telemetrygen and an OpenTelemetry Collector, of the versions in go/go.mod. @throws MissingToolchain */
export async function buildGo(): Promise<GoPrograms> {
  await version('go', ['version']);
  const folder = join(CACHE, 'go');
  // The slash at its end makes it a folder, which Go creates.
  await run('go', ['build', '-o', `${folder}/`, './otelcol', 'tool'], { cwd: pathOf('go') });
  return { telemetrygen: join(folder, 'telemetrygen'), otelcol: join(folder, 'otelcol') };
}

const ROTEL = '0.0.1a15';

/** Installs rotel's agent. Resolves to it. @throws MissingToolchain */
export async function installRotel(): Promise<string> {
  await version('python3', ['-m', 'pip', '--version']);
  const folder = join(CACHE, 'rotel');
  const program = join(folder, 'rotel', 'rotel-agent');
  if (existsSync(program)) return program;
  // A program, not a module: whatever Python is here.
  const platform = ['--only-binary', ':all:', '--python-version', '3.11', '--platform', 'manylinux_2_34_x86_64'];
  await run('python3', [
    '-m',
    'pip',
    'install',
    '--quiet',
    '--disable-pip-version-check',
    '--no-deps',
    '--target',
    folder,
    ...platform,
    `rotel==${ROTEL}`,
  ]);
  await chmod(program, 0o755);
  return program;
}

async function version(program: string, args: readonly string[]): Promise<void> {
  try {
    await run(program, args);
  } catch {
    throw new MissingToolchain(`\`${[program, ...args].join(' ')}\` fails here`);
  }
}

/** Runs a program to its end. @throws with what it wrote */
export async function run(
  program: string,
  args: readonly string[],
  { cwd, env = {} }: { cwd?: string; env?: Readonly<Record<string, string>> } = {},
): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(program, args, { cwd, env: { ...process.env, ...env }, maxBuffer: 64 * 1024 ** 2 });
  return stdout + stderr;
}

export function pathOf(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}
