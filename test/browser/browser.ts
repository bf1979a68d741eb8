import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/*
 * A real browser: Chromium from PATH (Debian: `apt-get install chromium`; or its path in CHROMIUM), driven by
 * playwright-core, which is put into node_modules/.cache once.
 */

const PLAYWRIGHT = 'playwright-core@1.65.1';
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/browser/', import.meta.url));
const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];

/** What is used here of playwright-core's types, which are not installed with the project. */
interface Playwright {
  readonly chromium: { launch(options: { executablePath: string; args: readonly string[] }): Promise<Browser> };
}

export interface Browser {
  newPage(options: {
    viewport: Size;
    colorScheme?: 'light' | 'dark';
    isMobile?: boolean;
    hasTouch?: boolean;
    deviceScaleFactor?: number;
  }): Promise<Page>;
  close(): Promise<void>;
}

export interface Page {
  on(event: 'console', listener: (message: { type(): string; text(): string }) => void): void;
  on(event: 'pageerror', listener: (error: Error) => void): void;
  on(event: 'request', listener: (request: { url(): string }) => void): void;
  on(event: 'dialog', listener: (dialog: { accept(text?: string): Promise<void> }) => void): void;
  goto(url: string, options?: { timeout?: number }): Promise<unknown>;
  locator(selector: string, options?: { hasText?: string }): Locator;
  evaluate<Result>(expression: string): Promise<Result>;
  screenshot(options: { path: string; fullPage: boolean }): Promise<unknown>;
  readonly keyboard: { press(key: string): Promise<void> };
  close(): Promise<void>;
}

export interface Locator {
  first(): Locator;
  nth(index: number): Locator;
  count(): Promise<number>;
  click(): Promise<void>;
  tap(): Promise<void>;
  fill(text: string): Promise<void>;
  hover(): Promise<void>;
  textContent(): Promise<string | null>;
  allTextContents(): Promise<string[]>;
  getAttribute(name: string): Promise<string | null>;
  boundingBox(): Promise<({ readonly x: number; readonly y: number } & Size) | null>;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Starts the browser. @throws when there is none */
export async function startBrowser(): Promise<Browser> {
  const executablePath = process.env.CHROMIUM ?? NAMES.find((name) => spawnSync(name, ['--version']).error === undefined);
  if (executablePath === undefined)
    throw new Error('Checking the pages needs Chromium on PATH, or its path in CHROMIUM. Debian: apt-get install chromium.');
  const { chromium } = playwright();
  // Without a sandbox, as in a container nobody is allowed to make one; the pages are our own.
  return chromium.launch({ executablePath: absolute(executablePath), args: ['--no-sandbox'] });
}

/** Where a screenshot goes. */
export function screenshotPath(name: string): string {
  const folder = join(CACHE, 'screenshots');
  mkdirSync(folder, { recursive: true });
  return join(folder, `${name}.png`);
}

function playwright(): Playwright {
  const require = createRequire(join(CACHE, 'package.json'));
  try {
    return require('playwright-core') as Playwright;
  } catch {
    mkdirSync(CACHE, { recursive: true });
    execFileSync('npm', ['install', '--prefix', CACHE, '--no-save', '--no-audit', '--no-fund', PLAYWRIGHT], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    return require('playwright-core') as Playwright;
  }
}

function absolute(program: string): string {
  return program.includes('/')
    ? program
    : spawnSync('sh', ['-c', `command -v ${program}`])
        .stdout.toString()
        .trim();
}
