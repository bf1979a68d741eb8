import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** The status page: one file, which asks for nothing but /status/events. */
export const page = readFileSync(new URL('page.html', import.meta.url), 'utf8');

/** Only the page's own style and script, known by their hashes: nothing that a sender's text could smuggle in would run. */
export const contentSecurityPolicy = [
  "default-src 'none'",
  `script-src ${hashOf('script')}`,
  `style-src ${hashOf('style')}`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

function hashOf(element: 'script' | 'style'): string {
  const [, text = ''] = new RegExp(`<${element}>([^]*?)</${element}>`).exec(page) ?? [];
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
