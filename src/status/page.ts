import { readFileSync } from 'node:fs';
import { pagePolicy } from '../http/page-policy.ts';

/** The HTML of the status page: a single file, which loads nothing but /status/*. */
export const page = readFileSync(new URL('page.html', import.meta.url), 'utf8');

/** The Content-Security-Policy of the page. */
export const contentSecurityPolicy = pagePolicy({ script: textOf('script'), style: textOf('style'), connects: true });

function textOf(element: 'script' | 'style'): string {
  return new RegExp(`<${element}>([^]*?)</${element}>`).exec(page)![1];
}
