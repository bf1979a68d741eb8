import { readFileSync } from 'node:fs';
import { pagePolicy } from '../http/page-policy.ts';

/** The status page: one file, which asks for nothing but what is under /status. */
export const page = readFileSync(new URL('page.html', import.meta.url), 'utf8');

export const contentSecurityPolicy = pagePolicy({ script: textOf('script'), style: textOf('style'), connects: true });

function textOf(element: 'script' | 'style'): string {
  return new RegExp(`<${element}>([^]*?)</${element}>`).exec(page)![1];
}
