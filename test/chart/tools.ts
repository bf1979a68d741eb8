import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';

/*
 * What checking the chart takes: Helm (from PATH, or built by Go), and Python 3 with two packages: the Kubernetes API's
 * schemas, and a parser of PromQL. What is not here is put into node_modules/.cache once.
 */

const HELM = 'helm.sh/helm/v3/cmd/helm@v3.19.0';
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/chart-tools/', import.meta.url));
const REQUIREMENTS = fileURLToPath(new URL('requirements.txt', import.meta.url));

declare module 'vitest' {
  interface ProvidedContext {
    helm: string;
    python: string;
  }
}

export default function setup({ provide }: TestProject): void {
  provide('helm', findHelm());
  provide('python', findPython());
}

function isThere(command: string): boolean {
  return spawnSync(command, ['version']).error === undefined;
}

function findHelm(): string {
  if (isThere('helm')) return 'helm';
  const built = join(CACHE, 'helm');
  if (existsSync(built)) return built;
  if (!isThere('go')) throw new Error('Checking the chart needs Helm 3 on PATH, or Go to build it.');
  console.log(`Building ${HELM}, once`);
  execFileSync('go', ['install', HELM], { env: { ...process.env, GOBIN: CACHE }, stdio: ['ignore', 'ignore', 'inherit'] });
  return built;
}

function findPython(): string {
  const python = join(CACHE, 'venv/bin/python');
  if (!existsSync(python)) {
    if (!isThere('python3')) throw new Error('Checking the chart needs Python 3.');
    execFileSync('python3', ['-m', 'venv', join(CACHE, 'venv')], { stdio: ['ignore', 'ignore', 'inherit'] });
  }
  execFileSync(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--requirement', REQUIREMENTS], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return python;
}
