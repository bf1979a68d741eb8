import { createHash } from 'node:crypto';

/** The parts of a page that its policy depends on. */
export interface PageParts {
  /** Text of its only `<script>`, if it has one. */
  readonly script?: string;
  /** Text of its only `<style>`. */
  readonly style: string;
  /** Whether the script may send requests to this server. */
  readonly connects?: boolean;
}

/**
 * The Content-Security-Policy of a page: only its own script and style, identified by their hashes, are allowed. Text of senders could
 * not run even if the page inserted it as HTML.
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
