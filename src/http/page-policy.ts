import { createHash } from 'node:crypto';

export interface PageParts {
  /** Text of the page's only `<script>`, if it has one. */
  readonly script?: string;
  /** Text of its only `<style>`. */
  readonly style: string;
  /** Whether the script may ask this server for more. */
  readonly connects?: boolean;
}

/**
 * The Content-Security-Policy of a page of ours: its own script and style, known by their hashes, and nothing else. What senders
 * wrote could not run even if the page took it for HTML.
 */
export function pagePolicy({ script, style, connects = false }: PageParts): string {
  return [
    "default-src 'none'",
    `script-src ${script === undefined ? "'none'" : hashOf(script)}`,
    `style-src ${hashOf(style)}`,
    `connect-src ${connects ? "'self'" : "'none'"}`,
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
